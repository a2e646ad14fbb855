"""First looks at trials that are known to come: taken at once, and nothing else is changed by it."""

import pytest
import small_task
from optuna.trial import TrialState

from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.together import FEWEST
from ssdtune.samplers.recorded import recorded
from ssdtune.samplers.space import Setting
from ssdtune.study import measuring
from ssdtune.study.facts import read_facts
from ssdtune.study.measuring import Fast
from ssdtune.study.run import run_study


@pytest.fixture
def begun(monkeypatch):
    """How many models were begun at once, each time."""
    found, together = [], measuring.measure_together

    def count(evaluator, params, names, slices):
        found.append(len(params))
        return together(evaluator, params, names, slices)

    monkeypatch.setattr(measuring, "measure_together", count)
    return found


def outcomes(study):
    return [(trial.params, trial.state, recorded(trial).get("slices", 0)) for trial in study.trials]


@pytest.mark.parametrize(("sampler", "most"), [("random", 20), ("tpe", 10), ("qmc", 0)])
def test_trials_drawn_independently_are_begun_at_once_and_come_out_the_same(
    wide, new_study, begun, monkeypatch, sampler, most
):
    task, analysis = wide
    evaluator = Evaluator(task)
    ahead, alone = (new_study("ahead", task=task, trials=20, sampler=sampler) for _ in range(2))
    run_study(ahead, task, analysis, evaluator=evaluator)
    drawn = [trial for trial in ahead.trials[:most] if recorded(trial).get("slices")]
    assert 0 <= len(drawn) - sum(begun) < FEWEST
    assert evaluator.account.slices == sum(recorded(trial).get("slices", 0) for trial in ahead.trials)
    monkeypatch.setattr(measuring, "room_for", lambda *given: 0)
    run_study(alone, task, analysis)
    assert outcomes(ahead) == outcomes(alone)
    values = [trial.value for trial in alone.trials]
    assert [trial.value for trial in ahead.trials] == pytest.approx(values, abs=1e-6)


class Stop(Exception):
    pass


def stop_after(trials):
    def on_trial(study, trial):
        if trial.number + 1 >= trials:
            raise Stop

    return on_trial


def test_none_is_begun_while_other_trials_run_or_wait(wide, new_study, begun):
    task, analysis = wide
    free, running, waiting = (new_study(name, task=task, trials=30) for name in ("free", "running", "waiting"))
    running.ask()
    for _ in range(2):
        waiting.enqueue_trial({"alpha": 1.0, "lambda": 0.5})
    for study, trials in ((running, 6), (waiting, 1)):
        with pytest.raises(Stop):
            run_study(study, task, analysis, on_trial=stop_after(trials))
        assert begun == []
    with pytest.raises(Stop):
        run_study(free, task, analysis, on_trial=stop_after(1))
    assert len(begun) == 1  # nothing else hinders it


def test_a_stop_in_between_changes_nothing(wide, new_study, begun):
    task, analysis = wide
    whole, parts = (new_study("parts", task=task, trials=20) for _ in range(2))
    run_study(whole, task, analysis)
    with pytest.raises(Stop):
        run_study(parts, task, analysis, on_trial=stop_after(3))
    parts.tell(parts.ask(), state=TrialState.FAIL)  # interrupted
    run_study(parts, task, analysis)
    kept = [trial for trial in parts.trials if trial.number != 3]
    assert [(trial.params, trial.state) for trial in kept] == [(t.params, t.state) for t in whole.trials]
    values = [trial.value for trial in whole.trials]
    assert [trial.value for trial in kept] == pytest.approx(values, abs=1e-6)
    assert len(begun) > 2


def test_begun_in_vain_is_given_up(wide, new_study, begun):
    task, analysis = wide
    fast = Fast(Evaluator(task), read_facts(new_study(task=task)))
    others = [Setting(10.0 + n, 1.0) for n in range(50)]
    for number in range(6):
        fast(analysis, Setting(1.0 + number, 0.5), lambda most: others[:most])
    assert begun == [8]


def test_what_cannot_be_measured_at_once_is_not_tried_again(wide, new_study, begun):
    task, _ = wide

    class Breaks(small_task.Diagonals):
        def dampen(self, alpha, lam, exponent=1.0):
            found = super().dampen(alpha, lam, exponent)
            return {name: value * float("nan") for name, value in found.items()} if alpha == 13.0 else found

    fast = Fast(Evaluator(task), read_facts(new_study(task=task)))
    settings = [Setting(10.0 + n, 1.0) for n in range(10)]
    for number in range(4):
        found = fast(Breaks(task), settings[number], lambda most, rest=settings[number + 1 :]: rest[:most])
        assert ("non_finite" in found.values) == (number == 3)
    assert begun == [8]
