"""The parts of ``benchmarks.fidelity`` on small cases."""

from argparse import Namespace
from functools import partial

import pytest
import torch

from benchmarks.fidelity import dry_run, random_masks, size, subset, threads
from benchmarks.trial_cost.tasks import Sizes, make_case
from ssdtune.device import time_threads
from ssdtune.errors import ConfigError
from ssdtune.mri.kspace.check import check_files

SMALL = Sizes(pixels=32, cascades=1, channels=2, pools=1, epochs=2, train=10, retain=10, forget=5)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("case"), SMALL, 0, random_masks=True)


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_threads_measures_every_case(monkeypatch):
    tiny = Sizes(pixels=32, cascades=1, channels=2, pools=1)
    counted, workloads = [], threads.workloads

    def once(task):
        """The gradients are taken once; a trial as often as it is asked for."""
        found = workloads(task)
        return found | {"gradients": lambda: counted or counted.append(found["gradients"]())}

    monkeypatch.setattr(threads, "MODELS", {"tiny": (tiny, (4, 2), 2)})
    monkeypatch.setattr(threads, "ROUNDS", 1)
    monkeypatch.setattr(threads, "time_threads", partial(time_threads, seconds=0.05))
    monkeypatch.setattr("ssdtune.device.thread_choices", lambda: [1, 2])
    monkeypatch.setattr(threads, "thread_choices", lambda: [1, 2])
    monkeypatch.setattr(threads, "workloads", once)
    before = torch.get_num_threads()
    found = threads.threads(Namespace(quick=True, device="cpu"))
    assert torch.get_num_threads() == before and counted
    ratios = [
        found[f"threads.tiny.{state}.{what}_ratio"] for state in ("idle", "busy") for what in ("trial", "gradients")
    ]
    assert found["threads.worst_ratio"] == max(ratios)
    assert min(ratios) >= 1


def test_the_large_folder_is_sound(monkeypatch, tmp_path):
    monkeypatch.setattr(size, "SIDE", 32)
    size.make_folder(tmp_path, 3)
    reports = check_files(sorted((tmp_path / "retain").iterdir()))
    assert [report.faults for report in reports] == [()] * 3
    assert len({report.kspace_ids[0] for report in reports}) == 3
    assert sum(path.stat().st_size for path in (tmp_path / "retain").iterdir()) < 1e5


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_subsets_against_the_whole(case):
    found = subset.one_task(case, 0, trials=2, percents=(10, 100))
    for percent in (10, 100):
        losses = [found[f"{percent}.{name}.score_loss"] for name in subset.METHODS]
        assert found[f"{percent}.score_loss"] == pytest.approx(sum(losses) / 2)
        assert all(abs(loss) <= 1 for loss in losses)
    assert found["10.mode_alpha_decades"] >= 0 == found["100.mode_alpha_decades"]  # the prior knows no seed


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_regrets_under_random_masks(case, monkeypatch):
    made = []

    def make(folder, sizes, seed, number, random_masks):
        if number == 1 and random_masks:
            raise ConfigError("nothing is learned")
        made.append((number, random_masks))
        return case

    monkeypatch.setattr(random_masks, "make_case", make)
    monkeypatch.setattr(random_masks, "TRIALS", 3)
    found = random_masks.random_masks(Namespace(quick=True, seed=0))
    for how in ("random", "frozen"):
        assert found[f"random_masks.{how}.regret_1"] >= found[f"random_masks.{how}.regret_3"] >= 0
    assert made == [(0, False), (0, True), (1, False)]
    assert found["random_masks.tasks"] == found["random_masks.left_out"] == 1
    assert found["random_masks.random.regret_1"] == found["random_masks.frozen.regret_1"]  # one case, twice


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_what_a_dry_run_says_beside_what_trials_took(monkeypatch):
    monkeypatch.setattr(dry_run, "METHODS", ("ssd", "ft"))
    monkeypatch.setattr(dry_run, "STUDY", dry_run.STUDY.replace("trials = 5", "trials = 2"))
    found = dry_run.dry_run(Namespace(device="cpu", seed=0), size=32, slices=8)
    errors = {name: found[f"dry_run.{name}.trial_error"] for name in ("ssd", "ft")}
    for name, error in errors.items():
        said, took = (found[f"dry_run.{name}.trial_{word}_s"] for word in ("said", "took"))
        assert error * took == pytest.approx(said)
        assert found[f"dry_run.{name}.stopped_share"] > 0
    assert found["dry_run.trial_error"] in errors.values()
    assert found["dry_run.ssd.analysis_error"] > 0
    assert "dry_run.ft.analysis_error" not in found
