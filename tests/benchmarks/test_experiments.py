"""The small maths of the experiments: what comes back and what can be carried over, trials to a peak, the patch, the
scans of a scanner."""

import re
from dataclasses import replace

import pytest
import torch

import ssdtune
from benchmarks.cifar_landscape import first_near, patch
from benchmarks.harness import ROOT
from benchmarks.scanner import write_scan
from benchmarks.sequential import carried, drifts
from ssdtune.mri.kspace.select import set_files
from ssdtune.studyfile import DataSection

PAGES = sorted((ROOT / "docs/experiments").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_an_experiment_is_told_in_ten_sentences(page):
    story = page.read_text().split("\n## Details\n")[0]
    lines = [line for line in story.splitlines() if not line.startswith(("#", "!", "|", "`python -m"))]
    told = re.sub(r"`[^`]*`", "`code`", " ".join(lines))
    assert 5 <= len(re.findall(r"[.!?](?= +[A-Z`]| *$)", told)) <= 10


def test_drift_is_what_came_back_since_the_own_request():
    found = drifts([[0.2, 0.8, 1.0], [0.3, 0.1, 0.9], [0.5, 0.0, 0.4]])
    assert found == pytest.approx(
        {
            "remembered_1": 0.2,
            "ahead_1": 0.9,
            "remembered_2": 0.2,
            "drift_2": 0.1,
            "ahead_2": 0.9,
            "remembered_3": 0.3,
            "drift_3": (0.3 - 0.1) / 2,
        }
    )


def test_an_analysis_holds_for_the_model_that_it_is_of_and_not_for_one_that_was_unlearned(task):
    first = ssdtune.analyse(task)
    assert carried(first, ssdtune.analyse(task)) == {"carried_error": 0.0, "carried_overlap": 1.0}
    model = task.twin()
    model.load_state_dict(task.state_dict(first.dampen(1.0, 0.1)))
    found = carried(first, ssdtune.analyse(replace(task, model=model)))
    assert found["carried_error"] > 0.01 and found["carried_overlap"] < 1


def test_trials_to_a_peak():
    assert first_near([0.1, 0.5, 0.79, 0.8], 0.8, 10) == 3
    assert first_near([0.1], 0.8, 10) == 11


def test_the_patch_is_three_white_pixels_a_side():
    x = torch.full((2, 3, 8, 8), -1.0)
    found = patch(x)
    assert (found == 1).sum() == 2 * 3 * 9 and (found[..., -3:, -3:] == 1).all() and (x == -1).all()


def test_a_scanner_is_told_by_its_name_and_by_its_coils(tmp_path):
    for scanner in ("Skyra", "Aera"):
        write_scan(tmp_path, scanner, 0.8, seed=0, number=0)
    for condition in ("systemModel = Aera", "receiverChannels = 8", "coils = 8"):
        data = DataSection.model_validate({"retain": str(tmp_path), "forget": {"header": condition}})
        files = set_files(data)
        assert [path.name for path in files["forget"]] == ["Aera_000.h5"]
        assert [path.name for path in files["retain"]] == ["Skyra_000.h5"]
