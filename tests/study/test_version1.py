"""Studies written by ssdtune before it knew methods: read, resumed, re-scored and applied as they were."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

from ssdtune.cli import main
from ssdtune.study.record import read_record
from ssdtune.study.storage import load_study, open_storage
from ssdtune.study.trials import best_of, scored_trials

KEPT = Path(__file__).parent / "data" / "version1"


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the folder that the studies were made in, which was ``/version1`` then."""
    folder = shutil.copytree(KEPT, tmp_path / "version1")
    shutil.move(folder / "studies.sqlite", folder / "studies.db")
    with sqlite3.connect(folder / "studies.db") as database:
        database.execute(
            "update study_user_attributes set value_json = replace(value_json, '/version1', ?)", [str(folder)]
        )
    monkeypatch.setenv("SSDTUNE_STORAGE", f"sqlite:///{folder}/studies.db")
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    return folder


def told(capsys, *arguments):
    capsys.readouterr()
    main(list(arguments))
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["old", "prior", "rival"])
def test_what_was_recorded_is_read_as_it_was(old, capsys, name):
    before = json.loads((old / f"best_{name}.json").read_text())
    found = json.loads(told(capsys, "study", "best", name, "--json"))
    assert {key: found[key] for key in before if key != "recorded"} == {
        k: v for k, v in before.items() if k != "recorded"
    }
    assert found["recorded"] == before["recorded"]
    record = read_record(load_study(name, open_storage()))
    assert record.version == 1
    assert record.method["name"] == "ssd"
    assert [knob.name for knob in record.knobs] == ["alpha", "lambda"]
    assert record.knobs[0].low == 0.2
    for command in (["show", name], ["rescore", name, "--retain-weight", "0.5"], ["export", name, "--out", "all.json"]):
        assert told(capsys, "study", *command)
    rows = {row["name"]: row for row in json.loads(told(capsys, "study", "list", "--json"))}
    assert rows[name]["best"] == before["score"]
    told(capsys, "report", name, "--no-inputs", "--out", "page.html")
    assert "alpha" in (old / "page.html").read_text()


def test_a_stopped_study_goes_on(old, capsys):
    study = load_study("old", open_storage())
    kept = [(trial.params, trial.value) for trial in study.trials]
    main(["study", "run", "old", "--trials", "9"])
    study = load_study("old", open_storage())
    assert [(trial.params, trial.value) for trial in study.trials][: len(kept)] == kept
    assert len(scored_trials(study)) == 9
    told(capsys, "study", "apply", "old", "--out", "unlearned.pt")
    original, unlearned = (torch.load(old / name, weights_only=True) for name in ("model.pt", "unlearned.pt"))
    assert any(not torch.equal(unlearned[key], original[key]) for key in original if key in unlearned)


def test_a_kept_prior_is_followed(old):
    before = read_record(load_study("prior", open_storage()))
    main(["study", "run", "prior", "--trials", "4"])
    study = load_study("prior", open_storage())
    assert "content" not in study.user_attrs["prior"]  # still the one of then
    assert read_record(study) == before
    assert best_of(scored_trials(study)) is not None


def test_a_sampler_that_is_no_longer_there_is_one_line(old, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["study", "run", "rival"])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert line.startswith("error: its sampler 'tpe-4' is no longer there, study 'rival'")
