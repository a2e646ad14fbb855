"""The comparison of methods as a user runs it: it begins in a folder that has the harness's notes and nothing else."""

import json
from argparse import Namespace

import pytest

from benchmarks import comparison
from benchmarks.harness import note_commit

ROW = {
    "s": 0.9,
    "s_equal_cost": 0.8,
    "retained": 1.0,
    "remembered": 0.1,
    "oracle_distance": 0.1,
    "cost": 5,
    "seconds": 2,
}


def test_a_first_run_makes_its_task_and_reads_what_the_command_prints(tmp_path, monkeypatch):
    asked = []

    def command(*words, folder):
        asked.append(words)
        return json.dumps({"methods": {"ssd": ROW}, "budget": {"cost": 5}})

    monkeypatch.setattr(comparison, "ssdtune", command)
    chosen = Namespace(work=tmp_path / "new", quick=True, trials=None, device="cpu")
    note_commit(chosen.work, "comparison", {"commit": "abc", "quick": True})
    lines = []
    found = comparison.measure(chosen, lines)
    assert (found["s.ssd"], found["trials"]) == (pytest.approx(0.9), 4)
    assert any("| ssd" in line for line in lines)
    assert (chosen.work / "demo" / "study.toml").exists() and asked[-1][:2] == ("study", "compare")
