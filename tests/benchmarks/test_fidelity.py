"""The parts of ``benchmarks.fidelity`` on small cases."""

from argparse import Namespace

import pytest
import torch

from benchmarks.fidelity import size, subset, threads
from benchmarks.fidelity.dry_run import dry_run
from benchmarks.trial_cost.tasks import Sizes, make_case
from ssdtune.mri.kspace.check import check_files


def test_threads_measures_every_case(monkeypatch):
    monkeypatch.setattr(threads, "MODELS", {"10k": threads.MODELS["10k"]})
    monkeypatch.setattr(threads, "ROUNDS", 1)
    monkeypatch.setattr("ssdtune.device.thread_choices", lambda: [1, 2])
    monkeypatch.setattr(threads, "thread_choices", lambda: [1, 2])
    before = torch.get_num_threads()
    found = threads.threads(Namespace(quick=True, device="cpu"))
    assert torch.get_num_threads() == before
    ratios = [
        found[f"threads.10k.{state}.{what}_ratio"] for state in ("idle", "busy") for what in ("trial", "gradients")
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
def test_subsets_against_the_whole(tmp_path):
    sizes = Sizes(pixels=32, cascades=1, channels=2, pools=1, epochs=2, train=10, retain=10, forget=5)
    found = subset.one_task(make_case(tmp_path, sizes, 0), 0, trials=2, percents=(10, 100))
    for percent in (10, 100):
        losses = [found[f"{percent}.{name}.score_loss"] for name in subset.METHODS]
        assert found[f"{percent}.score_loss"] == pytest.approx(sum(losses) / 2)
        assert all(abs(loss) <= 1 for loss in losses)
    assert found["10.mode_alpha_decades"] >= 0 == found["100.mode_alpha_decades"]  # the prior knows no seed


def test_what_a_dry_run_says_beside_what_a_trial_took():
    found = dry_run(Namespace(device="cpu", seed=0), size=32, slices=8)
    assert found["dry_run.trial_error"] * found["dry_run.trial_took_s"] == pytest.approx(found["dry_run.trial_said_s"])
    assert found["dry_run.analysis_error"] > 0
