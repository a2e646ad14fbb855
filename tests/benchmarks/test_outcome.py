"""The outcome benchmark: which tasks, what is still to run, what a study is kept as, and the figures from it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.outcome import runs
from benchmarks.outcome.__main__ import summarise
from benchmarks.outcome.runs import Plan, choose, estimate, read_all
from benchmarks.outcome.tables import GOALS, Goal, Study, Summary, interval
from benchmarks.outcome.tasks import CASES
from tests.small_task import make_task

FIRST = GOALS[0]
CASE = replace(CASES[0], models=1)


def result(label="ssd", task="a", model=0, trials=(), analysis=0, **changes):
    """A kept study whose trials are (cost, q_retain, q_forget); the untouched model has 1 and 1, the floor is 0.5."""
    sets = {"retain_ssim": 1.0, "forget_ssim": 1.0, "unknown_ssim": 0.9}
    return {
        "task": task,
        "family": "ghosting/knee",
        "model": model,
        "hash": f"{task}{model}",
        "label": label,
        "section": {"name": label},
        "min_retained": 0.95,
        "quality": "ssim",
        "floor": 0.5,
        "baseline": sets,
        "oracle": {**sets, "forget_ssim": 0.5},
        "analysis": analysis,
        "seconds": 1.0,
        "trials": [
            {
                "cost": cost,
                "slices": 5,
                "slices_possible": 10,
                **{"seconds_unlearn": 0.0, "seconds_reconstruct": 1.0, "seconds_score": 0.0},
                **{"retain_ssim": retain, "forget_ssim": forget, "unknown_ssim": 0.8},
            }
            for cost, retain, forget in trials
        ],
        **changes,
    }


def test_tasks_are_of_all_families_of_the_collection_and_real_ones():
    families = [case.family for case in CASES]
    collection = {family for family in families if not family.endswith("/real")}
    assert len(collection) == 19 and len(set(families) - collection) == 2 and len(CASES) >= 24
    assert sum(case.models >= 3 for case in CASES) >= 8
    assert len({case.key for case in CASES}) == len(CASES)


def test_the_best_is_feasible_and_never_an_estimate():
    trials = [(10, 0.96, 0.9), (10, 0.90, 0.5), (10, 1.0, 0.7)]
    kept = result(trials=trials)
    kept["trials"].append({"cost": 5, "retain_ssim": 1.0, "forget_ssim": 0.5, "stopped": "feasible"})
    kept["trials"].append({"cost": 5, "retain_ssim": None, "forget_ssim": None, "non_finite": ["retain"]})
    study = Study(kept, FIRST)
    assert study.best == pytest.approx(0.2 + 0.8 * 0.6)
    assert study.best_within(29) == pytest.approx(0.2 * 0.96 + 0.8 * 0.2)
    assert study.best_within(9) == FIRST.retain_weight and study.cost == 40
    assert Study(kept, Goal(0.5, 0.95)).best == pytest.approx(0.5 + 0.5 * 0.6)


def test_a_study_that_finds_nothing_comes_to_the_untouched_model():
    study = Study(result(trials=[(10, 0.5, 0.5)]), FIRST)
    assert study.best == FIRST.retain_weight and study.retained == 1
    assert study.oracle_distance == pytest.approx((0 + 0.5 + 0) / 3)


def test_the_analysis_is_billed_before_the_first_trial():
    study = Study(result(trials=[(10, 1.0, 0.5)], analysis=100), FIRST)
    assert study.best_within(109) == FIRST.retain_weight and study.best_within(110) == 1 and study.cost == 110


def test_methods_are_compared_at_equal_cost_model_by_model():
    ssd = [result(model=m, trials=[(10, 1.0, 0.9)]) for m in (0, 1)]
    ours = [result("ft", model=m, trials=[(cost, 1.0, 0.5)]) for m, cost in ((0, 20), (1, 40))]
    only_ours = result("ft", task="b", trials=[(10, 1.0, 0.5)])
    summary = Summary([*ssd, *ours, only_ours], FIRST)
    assert summary.ahead("ft") == {"a": pytest.approx((1 + 0.2) / 2 - 0.36)}
    assert summary.curve("ft") == pytest.approx([0.2, 0.6, 0.6, 1.0])
    metrics = summary.metrics()
    assert metrics["w0.2_min0.95.win_rate_vs_ssd.ft"] == 1
    assert metrics["w0.2_min0.95.worst_loss_vs_ssd.ft"] == pytest.approx(0.36 - 0.6)
    assert metrics["w0.2_min0.95.median_best.ft"] == 1 and metrics["w0.2_min0.95.cost.ft"] == 20


def test_interval_holds_the_statistic_and_narrows_with_tasks():
    values = np.random.default_rng(0).uniform(size=100)
    few, many = interval(values[:10], np.mean), interval(values, np.mean)
    assert many[0] < values.mean() < many[1] and many[1] - many[0] < few[1] - few[0]


def test_summary_names_the_worst_tasks_and_fills_all_goals():
    qualities = {"a": (1.0, 0.5), "b": (1.0, 0.6)}
    found = [result("ssd", task, trials=[(5, *qualities[task])]) for task in "ab"]
    found += [result("ng", task, trials=[(15, *qualities[task])]) for task in "ab"]
    lines = []
    metrics = summarise([*found, result(trials=[(10, 0.96, 0.6)], min_retained=0.98)], "ng", lines, 0)
    rows = [line for line in lines if line.startswith(("| a", "| b"))]
    assert rows[0].startswith("| b") and rows[1].startswith("| a")
    assert metrics["w0.2_min0.98.median_best.ssd"] == 0.2 and metrics["tasks"] == 2
    assert metrics["ng.trial_cost_ratio"] == 2 and metrics["oracle_distance.ng"] < 0.1


def test_a_stopped_run_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "make_task", lambda case, model, device: make_task(oracle=True, name=case.key))
    plan = Plan(choose(["ssd"], []), [0.95, 0.98], 3, 0, tmp_path)
    assert plan.missing(CASE, 0) == [("ssd", 0.95), ("ssd", 0.98)] and estimate(plan, CASE) > 0
    runs.run_model((plan, CASE, 0))
    assert plan.missing(CASE, 0) == [] and estimate(plan, CASE) == 0
    first = next(read_all(plan, [CASE]))
    assert first["trials"][0]["setting"] == {"alpha": 10.0, "lambda": 1.0}
    assert first["analysis"] == 3 * (40 + 12) and len(first["trials"]) == 3
    other = replace(plan, methods={"ssd": {"name": "ssd", "exponent": 2.0}})
    assert len(other.missing(CASE, 0)) == 2


def test_results_of_two_models_are_not_mixed(tmp_path):
    plan = Plan({"ssd": {"name": "ssd"}}, [0.95, 0.98], 3, 0, tmp_path)
    for bound in plan.bounds:
        path = plan.place(CASE, 0, "ssd", bound)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result(hash=f"{bound}")))
    with pytest.raises(SystemExit, match="different models"):
        list(read_all(plan, [CASE]))


def test_a_model_with_nothing_to_forget_is_left_out(tmp_path, monkeypatch):
    task = make_task(oracle=True)
    monkeypatch.setattr(runs, "make_task", lambda *_: replace(task, oracle=task.model))
    plan = Plan(choose(["ssd"], []), [0.95], 3, 0, tmp_path)
    runs.run_model((plan, CASE, 0))
    assert plan.missing(CASE, 0) == [] and list(read_all(plan, [CASE])) == []


def test_methods_that_are_not_there_are_left_out_and_unknown_labels_refused(monkeypatch, capsys):
    monkeypatch.setitem(runs.METHODS, "absent", {"name": "no-such-method"})
    assert list(choose(["ssd", "absent"], [])) == ["ssd"] and "left out absent" in capsys.readouterr().err
    assert choose(["mine"], ['mine={"name": "ssd", "exponent": 2}'])["mine"]["exponent"] == 2
    with pytest.raises(SystemExit, match="no method 'sdd'"):
        choose(["sdd"], [])


def test_a_study_that_fails_leaves_the_others_running(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runs, "make_task", lambda case, model, device: make_task(oracle=True, name=case.key))
    methods = {"bounded": {"name": "absent"}, "ssd": {"name": "ssd"}}
    plan = Plan(methods, [0.95], 2, 0, tmp_path)
    runs.run_model((plan, CASE, 0))
    assert plan.missing(CASE, 0) == [("bounded", 0.95)] and "bounded at 0.95 failed" in capsys.readouterr().err
