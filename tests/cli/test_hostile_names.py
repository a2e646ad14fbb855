"""Names and URLs that would leave their folder, or tell a secret."""

import json

import optuna
import pytest

from ssdtune.cli import worker as command
from ssdtune.cli import worker_processes

SECRET = "hunter2"


def test_a_study_that_another_program_named_needs_out(small, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/studies.db"
    optuna.copy_study(from_study_name="small", from_storage=url, to_storage=url, to_study_name="../escaped")
    done = run("../escaped", "--no-inputs", group="report")
    assert done.code == 2 and "give --out" in done.err
    assert run("../escaped", "--no-inputs", "--out", "page.html", group="report").code == 0
    assert not (tmp_path.parent / "escaped.html").exists()


def test_the_workers_of_several_devices_get_the_url_by_the_environment(run, monkeypatch):
    seen = []
    monkeypatch.setattr(worker_processes, "run_processes", lambda *given: seen.append(given) or 0)
    url = f"postgresql://lab:{SECRET}@host/db"
    run("--device", "cpu,cpu", "--storage", url, "--watch", "5", "--port", "9100", "--log-json", group="worker")
    commands, environment = seen[0]
    assert SECRET not in json.dumps(commands)
    assert environment == {"SSDTUNE_STORAGE": url}
    assert [words[words.index("--port") + 1] for words in commands] == ["9100", "9101"]
    assert all("--log-json" in words and words[words.index("--watch") + 1] == "5.0" for words in commands)


@pytest.mark.parametrize(
    "url", ["postgresql://lab:{}@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db?user=lab&password={}"]
)
def test_a_password_on_the_command_line_is_warned_of(run, url):
    told = run("list", "--storage", url.format(SECRET)).err
    assert "SSDTUNE_STORAGE_PASSWORD_FILE" in told and SECRET not in told
    assert "warning" not in run("list").err


def test_no_record_or_provenance_holds_the_storage(small, run, tmp_path):
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/studies.db")
    assert "studies.db" not in json.dumps(study.user_attrs)
    shown = run("best", small, "--json")
    assert shown.code == 0 and "studies.db" not in shown.out


@pytest.mark.parametrize("device", ["nonsense", "cpu,nonsense"])
def test_a_device_that_is_none_is_refused(run, device):
    assert run("--device", device, group="worker").code == 2
    assert command.worker.name == "worker"
