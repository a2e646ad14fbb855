"""``ssdtune study compare``: from a study file to the table, in one process or two, and what is refused."""

import json

import pytest
import torch

from ssdtune.cli import main
from ssdtune.cli.storage import DASHBOARD
from ssdtune.device import set_threads
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.report import comparison_page
from ssdtune.study.storage import load_study, open_storage
from ssdtune.study.trials import FINISHED
from ssdtune.studyfile import TrainSection
from ssdtune.unlearning.ft import FTUnlearner

STUDY = """
name = "field"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
unknown = "unknown"
[score]
floor = 0.01
min_retained = 0.0
[method]
name = "ft"
steps = [1, 2]
[search]
trials = 2
"""


DRAW = comparison_page.write_side_by_side


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pictures are most of a page's seconds: one page has them."""
    monkeypatch.setattr(comparison_page, "write_side_by_side", lambda *_: {})


@pytest.fixture
def study_file(tiny_study):
    return tiny_study(STUDY, "retain", "forget", "unknown", clean=("forget", "unknown"))


@pytest.fixture
def run(capsys):
    def call(*arguments, command="compare"):
        code = 0
        try:
            main(["study", command, *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return call


def test_a_comparison_from_study_file_to_applied_models(study_file, run, tmp_path, monkeypatch):
    code, out, err = run(study_file, "--methods", "ft,ssd", "--dry-run", "--json")
    assert code == 0, err
    foreseen = json.loads(out)
    assert [row["method"] for row in foreseen["methods"]] == ["ft", "ssd"]
    assert [row["preparation"] for row in foreseen["methods"]] == [0, 12]
    assert foreseen["methods"][1]["cost"] == 12 + 2 * 6
    assert foreseen["methods"][0]["trial_cost"] == 6 + 3 * 2  # one step on both retain slices
    assert not (tmp_path / "ssdtune.db").exists()
    code, out, err = run(study_file, "--methods", "ft,ssd")
    assert code == 0, err
    for label in ("ft", "ssd"):
        assert f"best of {label}: ssdtune study apply field-{label}-s0 --trial " in out
    assert f"{DASHBOARD}?ids=1,2" in out
    assert "Best is at 2 trials" in out
    warned = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert any("2 forget samples are too few" in line for line in warned) and len(warned) == len(set(warned))
    with monkeypatch.context() as patch:
        patch.setattr(comparison_page, "write_side_by_side", DRAW)
        code, out, err = run(study_file, "--methods", "ft,ssd", "--trials", 3, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert "data:image/webp" in (tmp_path / found["page"]).read_text()
    assert found["budget"]["trials"] == 3
    assert found["failed"] == {}
    for label, row in found["methods"].items():
        assert row["trials"] == 3
        assert row["s"] >= row["s_equal_cost"] >= found["untouched"]
        assert row["cost"] >= found["budget"]["cost"] - 1e-9
        name, trial = row["study"], row["trial"]
        code, out, err = run(name, "--trial", trial, "--out", f"{label}.pt", "--json", command="apply")
        assert code == 0, err
        applied = json.loads(out)
        assert {knob: applied[knob] for knob in row["setting"]} == row["setting"]
        first = torch.load(tmp_path / f"{label}.pt", weights_only=True)
        assert any(isinstance(value, torch.Tensor) for value in first.values())
    # processes find what one finds, at once what came in two goes
    storage = ("--storage", "sqlite:///several.db")
    code, out, err = run(study_file, "--methods", "ft,ssd", "--trials", 3, "--jobs", 2, "--json", *storage)
    assert code == 0, err
    several = json.loads(out)["methods"]
    assert set(several) == {"ft", "ssd"}
    for label, row in several.items():
        assert row["setting"] == found["methods"][label]["setting"]
        assert row["s_each"] == pytest.approx(found["methods"][label]["s_each"], abs=1e-4)


def test_a_method_that_fails_leaves_the_others_and_the_exit_code(study_file, run, monkeypatch):
    def broken(self, setting, seed):
        raise ValueError("no such layer")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(FTUnlearner, "__call__", broken)
        code, out, err = run(study_file, "--methods", "ft,ssd")
    assert code == 5
    assert "error: ft: trial 0 failed (no such layer)" in err
    assert "best of ssd" in out and "best of ft" not in out
    assert "not all methods got through: ft" in err
    code, out, err = run(study_file, "--methods", "ft,ssd")
    assert code == 0, err
    assert "best of ft" in out


def test_ctrl_c_keeps_what_is_finished(study_file, run, monkeypatch):
    calls, own = [], FTUnlearner.__call__

    def interrupted(self, setting, seed):
        calls.append(setting)
        if len(calls) == 2:
            raise KeyboardInterrupt
        yield from own(self, setting, seed)

    monkeypatch.setattr(FTUnlearner, "__call__", interrupted)
    code, _, err = run(study_file, "--methods", "ft,ssd", "--trials", 3)
    assert code == 130
    assert "the same command goes on" in err
    study = load_study("field-ft-s0", open_storage("sqlite:///ssdtune.db"))
    assert len([trial for trial in study.trials if trial.values]) == 1
    code, out, err = run(study_file, "--methods", "ft,ssd", "--trials", 3, "--json")
    assert code == 0, err
    assert {row["trials"] for row in json.loads(out)["methods"].values()} == {3}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--methods", "ft", "--trials", 3, "--cost", 100), 2, "two budgets, --trials with --cost, give one"),
        (("--methods", "ft", "--cost", "nan"), 2, "'--cost': nan is no number"),
        (("--methods", "ft", "--cost", "inf"), 2, "'--cost': inf is no number"),
        (("--methods", "fft"), 2, "no method 'fft', --methods, did you mean 'ft'?"),
        (("--methods", "FT"), 2, "no method 'FT', --methods, did you mean 'ft'"),
        (("--methods", "ft@"), 2, "no sampler after '@' in 'ft@'"),
        (("--methods", ","), 2, "no methods to compare"),
        (("--methods", "ssd@spektrum"), 2, "no sampler 'spektrum'"),
        (("--methods", "ft", "--dry-run", "--storage", "sqlite:///absent/x.db"), 4, "folder does not exist"),
        (("--methods", "ft@spectrum"), 2, "sampler 'spectrum' is made for the knobs of ssd"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(study_file, run, tmp_path, arguments, code, words):
    found, _, err = run(study_file, *arguments)
    assert (found, err.count("error: ")) == (code, 1)
    assert words in err
    if "--dry-run" not in arguments:
        assert "study" not in [path.stem for path in tmp_path.glob("*.db")]


def test_a_task_that_lacks_something_or_is_another(study_file, run, tmp_path):
    study_file.write_text(STUDY.replace("steps = [1, 2]", "").replace('"ft"', '"ng"\nbounded = true'))
    code, _, err = run(study_file, "--methods", "ng,ft")
    assert code == 2
    assert "method 'ng' lacks an oracle" in err
    other = TrainSection(cascades=1, channels=4, pools=2, sens_channels=2, sens_pools=2)
    save_new_model(tmp_path / "oracle.pt", build_model(other), {})
    study_file.write_text(STUDY.replace('"model.pt"', '"model.pt"\noracle = "oracle.pt"'))
    code, _, err = run(study_file, "--methods", "ft")
    assert code == 3
    assert "the oracle is another network" in err
    study_file.write_text(STUDY)
    assert run(study_file, "--methods", "ft", "--trials", 1)[0] == 0
    open_and_age("field-ft-s0")
    code, _, err = run(study_file, "--methods", "ft", "--trials", 1)
    assert code == 4
    assert "made by a newer ssdtune" in err


def open_and_age(name):
    load_study(name, open_storage("sqlite:///ssdtune.db")).set_user_attr("version", 99)


def test_processes_share_the_threads_that_were_settled(study_file, run, monkeypatch):
    taken, before = [], torch.get_num_threads()
    monkeypatch.setattr("ssdtune.cli.comparing.run_rounds", lambda _, rounds, *__, **___: taken.extend(rounds[0]))
    try:
        run(study_file, "--methods", "ft,ssd", "--jobs", 2, "--threads", 6)
    finally:
        set_threads(before)
    assert {job.threads for job in taken} == {3}


def test_a_comparison_on_a_cluster(study_file, run, two_places, tmp_path, monkeypatch):
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / "cache"))
    code, _, err = run(study_file, "--methods", "ft,ssd", "--ray", "--jobs", "2")
    assert code == 2 and "--ray with --jobs" in err
    code, out, err = run(study_file, "--methods", "ssd", "--trials", 3, "--ray", "--json")
    assert code == 0, err
    assert "ray: 2 processes, one for each CPU" in err
    study = load_study("field-ssd-s0", open_storage(json.loads(out)["storage"]))
    assert len(study.get_trials(states=FINISHED)) == 3
    assert len(list((tmp_path / "cache" / "fisher").glob("*.h5"))) == 1
