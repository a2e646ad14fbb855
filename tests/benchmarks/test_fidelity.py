"""The parts of ``benchmarks.fidelity`` on small cases."""

from argparse import Namespace

import torch

from benchmarks.fidelity import size, threads
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
