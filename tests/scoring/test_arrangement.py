"""The fastest way to run the networks is taken only where it gives the same qualities."""

import numpy as np
import pytest
import torch

from ssdtune.evaluation import evaluate
from ssdtune.mri import quick
from ssdtune.scoring import arrangement
from ssdtune.scoring.arrangement import Tried, choose_arrangement
from ssdtune.scoring.evaluator import Evaluator
from ssdtune.scoring.network import PLAIN, Arrangement

LAST, COMPILED = Arrangement(channels_last=True), Arrangement(compiled=True)


@pytest.fixture
def compiler(monkeypatch):
    """Graphs are traced as for the compiler that a machine may lack, and run as they are."""
    compile_as_it_is = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: compile_as_it_is(function, backend="eager"))
    quick._compiled.cache_clear()
    yield
    quick._compiled.cache_clear()


@pytest.fixture
def paced(monkeypatch):
    """``paced(seconds by arrangement)``: what timing finds."""

    def make(seconds):
        def of(self):
            self._measured(self._params[-1])
            return seconds[self._evaluator.arrangement]

        monkeypatch.setattr(arrangement._Trial, "_seconds", of)

    return make


@pytest.mark.parametrize("way", [LAST, COMPILED, Arrangement(channels_last=True, compiled=True)])
def test_every_arrangement_gives_the_same_measures(mri_task, dampened, compiler, way):
    task = mri_task()
    evaluator = Evaluator(task)
    evaluator.compute_in(torch.float32, way)
    params = dampened(task)
    assert evaluator.measures(params).summary() == pytest.approx(evaluate(task, params).summary(), rel=1e-4, abs=1e-5)


def test_the_fastest_is_taken_and_said(mri_task, compiler, paced):
    said = []
    evaluator = Evaluator(mri_task(), say=said.append)
    paced({PLAIN: 1.0, LAST: 0.5, COMPILED: 0.99})
    tried = choose_arrangement(evaluator, 100, [LAST, COMPILED])
    assert [one.arrangement for one in tried] == [PLAIN, LAST, COMPILED]
    assert all(one.moved < 1e-4 for one in tried)
    assert evaluator.arrangement == LAST
    assert said == ["networks run channels-last, 2.0 times as fast"]


def test_a_small_gain_is_left_alone(mri_task, paced):
    evaluator = Evaluator(mri_task())
    paced({PLAIN: 1.0, LAST: 0.97})
    choose_arrangement(evaluator, 100, [LAST])
    assert evaluator.arrangement == PLAIN


def test_other_qualities_are_not_put_up_with(mri_task, paced, monkeypatch):
    paced({PLAIN: 1.0, LAST: 0.1})
    ready = quick.Nets.ready
    monkeypatch.setattr(quick.Nets, "ready", lambda self, w: ready(self, w) * (1.5 if not self.stackable else 1))
    evaluator = Evaluator(mri_task())
    tried = choose_arrangement(evaluator, 100, [LAST])
    assert tried[1].moved > 1e-3
    assert evaluator.arrangement == PLAIN


def test_one_that_fails_is_said_and_left(mri_task, monkeypatch):
    def fail(function):
        raise RuntimeError("no C++ compiler\nlong trace")

    monkeypatch.setattr(torch, "compile", fail)
    quick._compiled.cache_clear()
    said = []
    evaluator = Evaluator(mri_task(), say=said.append)
    tried = choose_arrangement(evaluator, 100, [COMPILED])
    assert tried[1] == Tried(COMPILED, np.inf, np.inf)
    assert evaluator.arrangement == PLAIN
    assert said == ["networks cannot run compiled here: no C++ compiler"]


def test_a_cpu_tries_nothing_by_itself(mri_task):
    evaluator = Evaluator(mri_task())
    assert choose_arrangement(evaluator, 1e9) == []
    assert evaluator.account.slices == 0
