"""The headline: what counts as good, what is censored, and how ratios and their intervals come about."""

from argparse import Namespace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.headline import __main__ as headline
from benchmarks.headline import runs
from benchmarks.headline.tables import CELLS, PAPER, Task, in_words, paper_ratio, summary, tables
from benchmarks.headline.tasks import PLANS, Plan, sobol
from benchmarks.trial_cost.tasks import Sizes


def cell(seconds, trials=5, censored=False):
    facts = {"passes": 100, "slices": 30, "possible": 100, "replay_error": 0.0}
    return {"seconds": seconds, "trials": trials, "censored": censored, **facts}


def task(name, rival, shipped, target=0.8):
    cells = {name: [cell(1.0)] * len(rival) for name in CELLS}
    cells |= {"plain.tpe": list(map(cell, rival)), "fast.spectrum": list(map(cell, shipped))}
    cells["tenth.spectrum"] = [cell(seconds / 2) | {"passes": 50} for seconds in shipped]
    return Task(name, target, 0.2, {"retraining": 1000, "parameters": 10, "scored": 100}, cells)


def test_ratios_are_of_mean_seconds_and_together_a_geometric_mean():
    found = summary([task("a", [10, 30], [1, 1]), task("b", [45, 45], [9, 9])])
    assert found["headline_speedup"] == pytest.approx((20 * 5) ** 0.5)
    assert found["worst_speedup"] == pytest.approx(5)
    assert found["headline_speedup.lo"] <= 5 + 1e-9 and found["headline_speedup.hi"] >= 20
    assert found["retrain_ratio"] == pytest.approx(0.1)
    assert found["tasks_at_50x"] == 0
    assert found["headline_speedup_tenth"] == pytest.approx(2 * (20 * 5) ** 0.5)
    assert found["worst_speedup_tenth"] == pytest.approx(10)
    assert (found["retrain_ratio_tenth"], found["retrain_ratio_quarter"]) == (pytest.approx(0.05), pytest.approx(0.1))


def test_a_task_with_nothing_to_find_does_not_count():
    both = [task("a", [10, 30], [1, 1]), task("b", [1, 1], [5, 5], target=0.205)]
    found = summary(both)
    assert (found["headline_speedup"], found["worst_speedup"]) == (pytest.approx(20), pytest.approx(20))
    assert (found["tasks"], found["tasks_left_out"]) == (1, 1)
    assert "left out" in tables(both)[-1] and "left out" not in tables(both)[-2]


def test_tasks_with_nothing_to_find_alone_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(headline, "files", lambda work, plan: [])
    monkeypatch.setattr(headline, "read_task", lambda work, plan: task("b", [1], [5], target=0.205))
    chosen = Namespace(quick=True, work=tmp_path, dry_run=False, summary=True)
    with pytest.raises(SystemExit, match="no task has anything to find"):
        headline.measure(chosen, [])


def test_paper_ratio_is_the_sum_it_says():
    scored = PAPER["heldout"] + PAPER["forget"]
    paid = 3 * 6434 + scored + 5 * 0.3 * scored
    assert paper_ratio([task("a", [1], [1])]) == pytest.approx(paid / (3 * 50 * 5898))
    part = paid - 3 * (6434 - 590 - 536)
    assert paper_ratio([task("a", [1], [1])], 590) == pytest.approx(part / (3 * 50 * 5898))


def test_what_is_censored_is_shown_and_counted():
    one = task("a", [10, 30], [1, 1])
    one.cells["plain.tpe"][1]["censored"] = True
    assert summary([one])["cell.plain.tpe_censored"] == 0.5
    assert "1 of 2 censored" in "\n".join(tables([one]))
    assert "Speed-up" in in_words(summary([one]))[1]


def test_dense_settings_cover_both_knobs_and_are_none_twice():
    settings = sobol(0.1, 300.0, 0.03, 64)
    alphas, lambdas = (np.array([each[name] for each in settings]) for name in ("alpha", "lambda"))
    assert len(settings) == 64 and (lambdas <= alphas).all()
    assert alphas.min() < 0.2 and alphas.max() > 150 and lambdas.min() < 0.06
    assert len({(each["alpha"], each["lambda"]) for each in settings}) == 64


def test_tasks_are_six_of_three_sizes_one_of_them_large():
    assert len(PLANS) >= 7 and len({plan.sizes.pixels for plan in PLANS}) >= 3
    assert all(plan.seeds > 1 for plan in PLANS)


def test_cells_pay_for_all_and_a_stand_in_gives_the_plain_scores(tmp_path):
    sizes = Sizes(pixels=32, cascades=1, channels=2, pools=1, epochs=2, train=10, retain=10, forget=10)
    plan = Plan("tiny", sizes, 0, seeds=1)
    made = runs.make(plan, tmp_path, 0)
    facts = made.facts()
    assert facts["retraining"] == 3 * 2 * 10 and facts["parameters"] > 1000
    run = partial(runs.plain_cell, sampler="tpe", target=2.0, seed=0, most=3)  # which no setting reaches
    plain = run(made)
    stood = run(SimpleNamespace(plan=SimpleNamespace(timed=1, name="tiny"), case=made.case, analysis_s=made.analysis_s))
    assert plain["censored"] and plain["trials"] == plain["measured"] == 3
    assert (stood["trials"], stood["measured"]) == (3, 1) and stood["replay_error"] < 1e-4
    fast = runs.fast_cell(made, sampler="spectrum", target=0.0, seed=0, most=3)
    assert not fast["censored"]  # as soon as a trial is feasible and measured in full
    assert fast["passes"] >= 3 * 20 + 20 and fast["before_s"] > made.analysis_s
    part = runs.part_cell(made, 0.2, sampler="spectrum", target=0.0, seed=0, most=3)
    prepared = [each["passes"] - each["slices"] for each in (fast, part)]
    assert prepared[0] - prepared[1] == 3 * 16  # two samples of ten of each set are analysed
