"""Commands that compute choose device and threads once, say so, and heed what the user says."""

import json

import click
import pytest
import torch
from small_task import make_task

from ssdtune.cli.computing import open_ray, settle_threads, work_of
from ssdtune.errors import ConfigError


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ssdtune.device.thread_choices", lambda: [1, 2])
    monkeypatch.setattr("ssdtune.device.time_threads", lambda work: {1: 2.0, 2: 1.0})


def test_the_option_overrides_everything(run, study, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = run("create", study, "--threads", 2)
    assert done.code == 0
    assert "2 threads (--threads)" in done.out
    assert torch.get_num_threads() == 2


def test_what_the_user_has_set_is_left_alone(run, study, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    done = run("create", study)
    assert [line for line in done.out.splitlines() if line.startswith("device:")] == [
        "device: cpu, 1 thread (OMP_NUM_THREADS)"
    ]


def test_else_they_are_measured(run, study, measured):
    torch.set_num_threads(1)
    done = run("create", study, "--device", "cpu")
    assert "device: cpu, 2 threads (measured: 1 takes 2 s, 2 takes 1 s)" in done.out
    assert torch.get_num_threads() == 2


def test_a_number_of_threads_is_positive(run, study):
    done = run("create", study, "--threads", 0)
    assert done.code == 2


def test_outside_a_command(measured, capsys):
    assert click.get_current_context(silent=True) is None
    settle_threads("cpu", lambda: lambda: None)
    assert "2 threads" in capsys.readouterr().out


def test_that_ray_starts_is_said_before_it_does(capsys, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    said = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: said.append(capsys.readouterr().err))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr("ssdtune.study.cluster.Places.number", lambda self: 2)
    with click.Context(click.Command("run")), open_ray("auto", "cpu"):
        assert said == ["starting Ray ...\n"]
    assert capsys.readouterr().err == "ray: 2 processes, one for each CPU\n"
    with pytest.raises(ConfigError), open_ray("127.0.0.1:none", "cpu"):
        pass
    assert capsys.readouterr().err == ""  # the error is a line by itself


def test_the_work_that_is_timed_changes_nothing():
    task = make_task()
    before = {name: value.clone() for name, value in task.params.items()}
    work_of(task)()
    for name, value in task.params.items():
        assert torch.equal(value, before[name])
        assert not value.requires_grad
        assert value.grad is None


def test_a_dry_run_reads_headers_and_writes_nothing(run, study, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / "cache"))
    done = run("create", study, "--dry-run", "--json", "--method", "ssd")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["slices"] == 9
    assert found["method_passes"] == 0
    assert found["trial_seconds"] == pytest.approx(9 * found["slice_seconds"] + 0.02)
    assert found["study_minutes"] == pytest.approx(found["analysis_minutes"] + 4 * found["trial_seconds"] / 60)
    assert 0 < found["analysis_gib"] <= 4
    assert not (tmp_path / "studies.db").exists()
    reports = [path.read_text() for path in (tmp_path / "cache" / "files").iterdir()]
    assert reports and not any('"kspace_ids":["' in text for text in reports)
    for method, analysed in (("ft", False), ("spectral", True)):  # the latter has an analysis of its own
        done = run("create", study, "--dry-run", "--json", "--method", method)
        found = json.loads(done.out)
        assert (found["analysis_minutes"] > 0) is analysed
        assert found["method_passes"] > 0 < found["method_seconds"]
        parts = 9 * found["slice_seconds"] + found["method_seconds"] + 0.02
        assert found["trial_seconds"] == pytest.approx(parts)
    assert run("create", study, "--dry-run", "--method", "none").code == 2
    assert run("create", study, "--dry-run", "--storage", f"sqlite:///{tmp_path}/absent/studies.db").code == 4
