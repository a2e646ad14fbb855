"""``ssdtune study compete``: from a study file to the page, twice over."""

import json

import pytest

from ssdtune.cli import main

STUDY = """
name = "cup"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
[score]
floor = 0.01
min_retained = 0.5
[method]
name = "ssd"
[search]
trials = 2
"""


@pytest.fixture
def study_file(tiny_study):
    return tiny_study(STUDY, "retain", "forget")


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = 0
        try:
            main(["study", "compete", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return call


def test_a_competition_from_study_file_to_page(study_file, run, tmp_path):
    code, out, err = run(study_file, "--samplers", "spectrum,tpe", "--seeds", 2)
    assert code == 0, err
    assert "spectrum" in out
    assert "prior: mode alpha" in err
    assert "Median trials to within 0.01" in out
    assert "compare-studies?ids=1,2" in out
    assert "4/4  tpe seed 1: " in err
    page = (tmp_path / "cup-competition.html").read_text()
    assert "Where each sampler looked" in page
    assert "TPESampler, Optuna 5 defaults" in page
    assert "The prior against what was measured" in page
    code, out, err = run(study_file, "--samplers", "spectrum,tpe", "--seeds", 2, "--trials", 3, "--json")
    again = json.loads(out)
    assert again["trials"] == 3
    assert again["studies"] == {"spectrum": ["cup-spectrum-s0", "cup-spectrum-s1"], "tpe": ["cup-tpe-s0", "cup-tpe-s1"]}
    assert set(again["settings"]) == {"spectrum", "tpe"}
    assert "regret.tpe.3" in again["metrics"]


def test_what_is_wrong_is_said_in_one_line(study_file, run):
    code, _, err = run(study_file, "--samplers", "random,annealing")
    assert code == 2
    assert "no sampler 'annealing'" in err
    assert run(study_file, "--samplers", "random", "--seeds", 1, "--trials", 1)[0] == 0
    study_file.write_text(STUDY.replace("min_retained = 0.5", "min_retained = 0.6"))
    code, _, err = run(study_file, "--samplers", "random", "--seeds", 1)
    assert code == 4
    assert "made with other settings" in err
