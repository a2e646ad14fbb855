"""The benchmark of every method: what is run on a model, and the table from what is kept."""

from dataclasses import replace

import pytest
from torch import nn

from benchmarks import methods
from benchmarks.outcome.runs import Plan, read
from benchmarks.outcome.tasks import CASES
from tests.small_task import make_task

CASE = next(replace(case, models=1) for case in CASES if case.key == methods.CLASSES[0])
NAMES = ("ft", "spectral", "i2i", "potion", "compose")


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "make_task", lambda *_: make_task(oracle=True))
    plan = Plan({name: {"name": name} for name in NAMES}, (methods.BOUND,), 3, 0, tmp_path)
    methods.run_model((plan, CASE, 0))
    return plan


def test_what_is_kept_and_shown(plan):
    assert not plan.missing(CASE, 0)
    found = {name: read(plan.place(CASE, 0, name, methods.BOUND)) for name in NAMES}
    parents = sum(trial["cost"] for trial in found["spectral"]["trials"] + found["ft"]["trials"])
    assert 0 < found["compose"]["preparation"] < parents + found["spectral"]["preparation"]
    lines = []
    metrics = methods.summarise(plan, [CASE], lines)
    assert metrics["methods"] == len(NAMES) and metrics["models"] == 1
    for name in NAMES:
        assert metrics[f"classes.s.{name}.lo"] <= metrics[f"classes.s.{name}"] <= metrics[f"classes.s.{name}.hi"]
        assert metrics[f"classes.cost.{name}"] >= found[name]["preparation"]
        assert any(line.startswith(f"| {name} ") for line in lines)


def test_a_method_that_does_not_suit_is_kept_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "make_task", lambda *_: replace(make_task(oracle=True), loss=nn.MSELoss()))
    plan = Plan({"boundary-shrink": {"name": "boundary-shrink"}}, (methods.BOUND,), 2, 0, tmp_path)
    methods.run_model((plan, CASE, 0))
    assert "lacks" in read(plan.place(CASE, 0, "boundary-shrink", methods.BOUND))[methods.LACKS]
    assert not plan.missing(CASE, 0)
    with pytest.raises(SystemExit, match="no results"):
        methods.summarise(plan, [CASE], [])
