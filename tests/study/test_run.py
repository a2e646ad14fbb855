"""Running, stopping and resuming studies on a small classifier."""

import math
import os
import signal
import sqlite3
import subprocess
from datetime import datetime, timedelta

import optuna
import pytest
import small_task
import torch
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from small_task import ssd

from ssdtune.errors import DataError, StorageError, TrialError
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.measure import Objective
from ssdtune.objective.outcome import Outcome
from ssdtune.objective.score import ScoreRule
from ssdtune.samplers import table
from ssdtune.study.ask import ask
from ssdtune.study.lost import release_lost_trials
from ssdtune.study.own import OwnView
from ssdtune.study.prior import study_sampler
from ssdtune.study.record import interrupted, read_record, read_trial, write_outcome
from ssdtune.study.run import run_study
from ssdtune.study.storage import load_study
from ssdtune.study.trials import FINISHED, best_of, count_trials, incumbent_of, known_outcomes, scored_trials


def outcomes(study):
    return [(trial.params, trial.value) for trial in study.trials if trial.state in FINISHED]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_resumed_study_equals_one_that_never_stopped(sampler, task, analysis, new_study, storage):
    whole, parts = new_study(sampler=sampler), new_study(sampler=sampler, storage=storage)
    run_study(whole, task, ssd(task, analysis), trials=14)
    run_study(parts, task, ssd(task, analysis), trials=5)

    def stop(study, trial):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(parts, task, ssd(task, analysis), trials=14, on_trial=stop)
    run_study(load_study("demo", storage), task, ssd(task, analysis), trials=14)
    assert outcomes(parts) == outcomes(whole)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_an_interrupted_trial_is_repeated_not_lost(sampler, task, analysis, new_study, monkeypatch):
    whole, parts = new_study(sampler=sampler), new_study(sampler=sampler)
    run_study(whole, task, ssd(task, analysis), trials=12)
    measure, begun = Objective.measure, []

    def press_in_the_fourth(self, *given):
        begun.append(given)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return measure(self, *given)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Objective, "measure", press_in_the_fourth)
        run_study(parts, task, ssd(task, analysis), trials=12)
    assert count_trials(parts).interrupted == 1
    assert count_trials(parts).finished >= 3
    run_study(parts, task, ssd(task, analysis), trials=12)
    assert outcomes(parts) == outcomes(whole)


def test_ctrl_c_around_an_evaluation_waits_until_the_trial_is_written(task, analysis, new_study):
    reached = []

    def press(study, trial):
        os.kill(os.getpid(), signal.SIGINT)
        reached.append(trial.number)

    study = new_study()
    with pytest.raises(KeyboardInterrupt):
        run_study(study, task, ssd(task, analysis), on_trial=press)
    assert reached == [0]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_within_an_evaluation_stops_it_at_once(task, new_study):
    class Presses(small_task.Diagonals):
        def dampen(self, *setting):
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("went on")

    study = new_study()
    with pytest.raises(KeyboardInterrupt):
        run_study(study, task, ssd(task, Presses(task)))
    assert count_trials(study).interrupted == 1


def test_running_again_adds_nothing(task, analysis, new_study):
    study = new_study(trials=3)
    run_study(study, task, ssd(task, analysis))
    run_study(study, task, ssd(task, analysis))
    assert len(study.trials) == 3


def test_every_trial_records_its_measures(task, analysis, new_study):
    study = new_study(trials=4)
    run_study(study, task, ssd(task, analysis), stop_early=False)
    rule = read_record(study).rule
    for trial in study.trials:
        params = analysis.dampen(trial.params["alpha"], trial.params["lambda"])
        measured = evaluate(task, params)
        assert {name: read_trial(trial)[name] for name in measured.summary()} == pytest.approx(measured.summary())
        score = rule(measured.quality("retain"), measured.quality("forget"))
        assert trial.value == pytest.approx(score.value)
        assert trial.constraints == {"min_retained": pytest.approx(score.violation)}
        assert read_trial(trial)["feasible"] == score.feasible
        assert read_trial(trial)["kappa"] <= 1
        types = {type(value) for value in read_trial(trial).values()}
        assert types <= {int, float, str, bool}


def test_the_model_is_never_changed(task, analysis, new_study):
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    run_study(new_study(trials=3), task, ssd(task, analysis))
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())


def test_settings_that_dampen_alike_are_evaluated_once(task, analysis, new_study):
    study = new_study(trials=2)
    run_study(study, task, ssd(task, analysis), trials=2)
    known = {}
    twin = new_study("twin", trials=2, seed=0)
    twin.enqueue_trial({"alpha": 0.5, "lambda": 4.0})
    twin.enqueue_trial({"alpha": 4.0, "lambda": 4.0})
    twin.enqueue_trial({"alpha": 299.0, "lambda": 0.1})
    run_study(twin, task, ssd(task, analysis), trials=3, known=known)
    first, second, third = twin.trials
    assert "reused_from" not in read_trial(first)
    assert read_trial(second)["reused_from"] == "trial 0 of twin"
    assert second.value == first.value
    assert analysis.selected_fraction(299.0) == 0
    assert read_trial(third)["reused_from"] == "untouched model"
    assert third.value == pytest.approx(0.2)
    assert len(known) == 1


def test_an_outcome_that_is_taken_over_says_its_precision(task, analysis, new_study):
    study, unlearner = new_study(), ssd(task, analysis)
    record = read_record(study)
    trial = study.ask({knob.name: FloatDistribution(knob.low, knob.high, log=True) for knob in record.knobs})
    means = dict.fromkeys(record.baseline, 0.5)
    score = write_outcome(study, trial, record, Outcome(means, precision="bfloat16"))
    study.tell(trial, score.value)
    (known,) = known_outcomes(study, record, unlearner, 0).values()
    assert known.precision == "bfloat16"


class _Broken(small_task.Diagonals):
    def dampen(self, alpha, lam, exponent=1.0):
        return {name: value * math.nan for name, value in super().dampen(alpha, lam, exponent).items()}


def test_non_finite_output_is_a_finished_infeasible_worst_trial(task, new_study):
    study = new_study(trials=3, alpha=(0.1, 10.0), score={"min_retained": 0.0})
    run_study(study, task, ssd(task, _Broken(task)))
    for trial in study.trials:
        assert trial.state == TrialState.COMPLETE
        assert trial.value == 0.0
        assert read_trial(trial)["feasible"] is False
        assert read_trial(trial)["non_finite"] == ["retain", "forget", "unknown"]
        assert read_trial(trial)["retain_accuracy"] is None
        assert trial.constraints["min_retained"] > 0
    with pytest.raises(ValueError, match="feasible"):
        _ = study.best_trial


def test_a_trial_that_fails_says_what_and_keeps_the_others(task, analysis, new_study):
    class Fails(small_task.Diagonals):
        """For the third setting it is asked for."""

        def __init__(self, task):
            super().__init__(task)
            self.known = {}

        def dampen(self, *setting):
            if self.known.setdefault(setting, len(self.known)) == 2:
                raise MemoryError("no room for 3 GiB")
            return super().dampen(*setting)

    study = new_study()
    with pytest.raises(TrialError, match=r"trial 2 failed \(no room for 3 GiB\)") as caught:
        run_study(study, task, ssd(task, Fails(task)))
    assert caught.value.exit_code == 5
    assert study.trials[2].user_attrs["error"] == "MemoryError: no room for 3 GiB"
    run_study(study, task, ssd(task, analysis), trials=4)
    counts = count_trials(study)
    assert (counts.finished, counts.failed, counts.interrupted) == (4, 1, 0)


def test_a_storage_that_fails_within_a_run_is_no_failed_trial(task, analysis, new_study, storage, tmp_path):
    def fail(study, trial):
        with sqlite3.connect(tmp_path / "studies.db") as database:
            database.execute("drop table trial_params")

    study = new_study(storage=storage)
    with pytest.raises(StorageError, match="no such table") as caught:
        run_study(study, task, ssd(task, analysis), on_trial=fail)
    assert caught.value.exit_code == 4


def test_a_storage_that_is_gone_within_an_evaluation_is_one_line(task, new_study, storage, tmp_path):
    class Breaks(small_task.Diagonals):
        def dampen(self, alpha, lam, exponent=1.0):
            with sqlite3.connect(tmp_path / "studies.db") as database:
                database.execute("drop table trials")
            return super().dampen(alpha, lam, exponent)

    study = new_study(storage=storage)
    with pytest.raises(StorageError, match="no such table"):
        run_study(study, task, ssd(task, Breaks(task)))


def test_changed_inputs_are_refused_with_what_changed(task, analysis, new_study):
    study = new_study()
    other = small_task.make_task(retain=small_task.points(0, 20, 7), model=small_task.trained_model(task.forget))
    with pytest.raises(DataError, match="inputs changed since the study was made: model, retain data") as caught:
        run_study(study, other, ssd(other, analysis))
    assert caught.value.exit_code == 3
    assert study.trials == []


def test_a_foreign_study_is_refused(task, analysis, storage):
    foreign = optuna.create_study(storage=storage, study_name="foreign")
    with pytest.raises(StorageError, match="not a study made by ssdtune"):
        run_study(foreign, task, ssd(task, analysis))


def test_the_best_trial_is_feasible_and_optunas_own(task, analysis, new_study):
    study = new_study(trials=12, score={"min_retained": 0.999})
    run_study(study, task, ssd(task, analysis))
    scored = scored_trials(study)
    best = best_of(scored)
    assert best.number == study.best_trial.number
    assert best.score.feasible
    assert any(item.score.value > best.score.value for item in scored)


def test_rescoring_equals_scoring(task, analysis, new_study):
    study = new_study("w02", trials=8)
    run_study(study, task, ssd(task, analysis), stop_early=False)
    for weight, least in ((0.7, 0.95), (0.5, 0.5), (0.2, 0.95)):
        direct = new_study(f"w{weight}{least}", trials=8, score={"retain_weight": weight, "min_retained": least})
        for trial in study.trials:
            direct.enqueue_trial(trial.params)
        run_study(direct, task, ssd(task, analysis), stop_early=False)
        record = read_record(study)
        rule = ScoreRule(record.rule.q_retain, record.rule.q_forget, record.rule.floor, weight, least)
        rescored = scored_trials(study, rule)
        assert [item.score.value for item in rescored] == [trial.value for trial in direct.trials]
        assert [item.score.violation for item in rescored] == [t.constraints["min_retained"] for t in direct.trials]


def test_lost_trials_of_a_dead_process_are_released(task, analysis, new_study):
    study = new_study(trials=2)
    run_study(study, task, ssd(task, analysis), trials=1)
    machine, _ = read_trial(study.trials[0])["worker"].split("-")
    gone = subprocess.Popen(["true"])
    gone.wait()
    for worker in (f"{machine}-{gone.pid}", f"{machine}-{os.getppid()}", f"elsewhere-{gone.pid}"):
        study.ask().set_user_attr("worker", worker)
    study.ask()  # has not signed yet
    for hours in (20, 30):  # an hour of another machine may be of another time zone
        since = datetime.now() - timedelta(hours=hours)
        number = len(study.trials)
        study.add_trial(FrozenTrial(number, TrialState.RUNNING, None, since, None, {}, {}, {}, {}, {}, number))
    release_lost_trials(study)
    assert [trial.number for trial in study.trials if interrupted(trial)] == [1, 6]


def test_a_trial_over_the_budget_gives_way_unevaluated(task, analysis, new_study):
    study = new_study(trials=3)
    run_study(study, task, ssd(task, analysis), trials=2)

    study.ask()
    study.ask()  # another process took the last place just before
    record = read_record(study)
    assert ask(OwnView(study), record, study_sampler(study, record, ssd(task, analysis)), 3) is None
    assert len(study.trials) == 4


def test_two_that_ask_at_once_for_the_last_place_leave_it_to_the_first(task, analysis, new_study, monkeypatch):
    study = new_study(trials=3)
    run_study(study, task, ssd(task, analysis), trials=2)
    record, own = read_record(study), OwnView(study)
    real = own.study.ask

    def another_is_quicker():
        study.ask()
        return real()

    monkeypatch.setattr(own.study, "ask", another_is_quicker)
    assert ask(own, record, study_sampler(study, record, ssd(task, analysis)), 3) is None
    assert [trial.state for trial in study.trials[2:]] == [TrialState.RUNNING, TrialState.FAIL]
    assert interrupted(study.trials[3])


def test_a_samplers_own_error_is_raised_also_after_an_interruption(task, analysis, new_study, monkeypatch):
    study = new_study(trials=4)
    study.tell(study.ask(), state=TrialState.FAIL)  # interrupted

    def broken(given):
        raise ValueError("the sampler's own fault")

    broken_choice = table.SamplerChoice(broken, "", sees_constraint=True)
    monkeypatch.setitem(table.SAMPLERS, "random", broken_choice)
    with pytest.raises(ValueError, match="the sampler's own fault"):
        run_study(study, task, ssd(task, analysis))


def test_the_incumbent_is_the_best_feasible_full_evaluation_with_its_slices(task, analysis, new_study):
    study = new_study(trials=8, score={"min_retained": 0.9})
    record = read_record(study)
    before = incumbent_of(study.trials, record)
    assert (before.label, before.score.value) == ("untouched", pytest.approx(0.2))
    run_study(study, task, ssd(task, analysis), stop_early=False)
    after = incumbent_of(study.trials, record)
    assert after.label == study.best_trial.number
    assert after.score.value == pytest.approx(study.best_trial.value)
    retain = read_trial(study.best_trial)["retain_confidence"]
    assert after.columns["retain"].mean() == pytest.approx(retain, abs=1e-6)
