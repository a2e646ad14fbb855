"""Each kind of run of a script has a section of its own in the results, and replaces it alone."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import harness


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(*arguments, value=1)``: the results after a script's published run."""
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(harness, "RESULTS", results)

    def call(*arguments, value=1):
        monkeypatch.setattr(sys, "argv", ["benchmarks/speed.py", "--publish", *arguments])
        monkeypatch.setattr(harness, "machine", lambda device: "a machine")
        harness.main("Speed.", lambda options: {"times": value}, lambda p: p.add_argument("--only", nargs="+"))
        return results.read_text()

    return call


def test_a_run_replaces_its_own_section_alone(run):
    run(value=1)
    run("--only", "diagonal", "memory", value=2)
    run("--device", "cuda:1", value=3)
    text = run(value=4)
    for name in ("speed", "speed_diagonal_memory", "speed_cuda_1"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1
    assert "`python benchmarks/speed.py --only diagonal memory`" in text
    assert "`python benchmarks/speed.py --device cuda:1`" in text
    assert [value for value in "1234" if f"| times  | {value}     |" in text] == ["2", "3", "4"]
