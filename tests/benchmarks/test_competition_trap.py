"""A search that cannot be trapped: within 1.5 times the trials and 2 it has found what one without prior finds."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.competition import bounded
from benchmarks.competition.adversarial import KINDS
from benchmarks.competition.bounded import (
    GUARDED,
    LED,
    PATIENCE,
    RELEASED,
    own_turns,
    run,
    run_guarded,
    run_released,
    stagnates,
)
from benchmarks.competition.fresh import compete, trapped
from benchmarks.competition.runs import NO_PRIOR, SPECTRUM, Job, new_study, run_job
from benchmarks.competition.tables import TRAP_GRACE, TRAP_RATIO, Ledger, trap_of
from benchmarks.competition.trap import report

SETTING = "w0.2_min0.95"


class Peak:
    """A task whose response is known in closed form: less is remembered, and less retained, as more is selected."""

    key = "peak"

    def outputs(self, alpha, lam):
        harsh = np.log10(300 / alpha) / 4 + np.log10(300 / lam) / 8
        return np.array([[1 - 0.2 * harsh**2], [np.exp(-2 * harsh)]])


def test_the_search_without_prior_goes_its_own_way_at_its_turns():
    trials = 9
    guarded = run_guarded(Job(SETTING, GUARDED, SPECTRUM, "peak", 0, trials), Peak())
    alone = run_job(Job(SETTING, NO_PRIOR, SPECTRUM, "peak", 0, 5), Peak())
    turns = sorted(turn for turn in own_turns(trials) if turn < trials)
    assert turns == [2, 4, 5, 7, 8]
    np.testing.assert_allclose(guarded[turns], alone, rtol=1e-3)  # a fit ends where its CPU's rounding leads it


def test_the_led_search_sees_what_the_other_has_tried(monkeypatch):
    studies = []
    monkeypatch.setattr(bounded, "new_study", lambda job, task: studies.append(new_study(job, task)) or studies[-1])
    run_guarded(Job(SETTING, GUARDED, SPECTRUM, "peak", 0, 6), Peak())
    led, alone = (study.trials for study in studies)
    assert (len(led), len(alone)) == (6, 3)
    assert [trial.params for trial in alone] == [led[turn].params for turn in (2, 4, 5)]


@pytest.mark.parametrize("trials", [1, 2, 3, 7, 40])
def test_turns_keep_the_bound(trials):
    turns = sorted(own_turns(41))
    assert turns[trials - 1] + 1 <= TRAP_RATIO * trials + TRAP_GRACE < turns[trials - 1] + 2


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], False),
        ([0.1] * (PATIENCE - 1), False),  # too few to tell
        ([0.1] * PATIENCE, True),  # the untouched model, 0.2, is better
        ([-np.inf] * PATIENCE, True),
        ([0.3] * PATIENCE, False),
        ([0.5, 0.3, 0.5, 0.4], True),  # as good is no better
        ([0.5, 0.3, 0.6, 0.4], False),
        ([0.5, 0.6, 0.3, 0.6, 0.4], True),
    ],
)
def test_a_search_stagnates_where_its_last_trials_brought_nothing(found, expected):
    assert stagnates(np.array(found), 0.2) is expected


def test_a_released_search_leaves_its_prior_where_it_stagnates(monkeypatch):
    asked = []
    monkeypatch.setattr(bounded, "new_study", lambda job, task: SimpleNamespace(sampler="led"))
    monkeypatch.setattr(bounded, "build", lambda job, task: f"{job.label} {job.response}")
    scores = iter([0.5, 0.4, 0.4, 0.4, 0.6, 0.1])
    monkeypatch.setattr(bounded, "try_next", lambda study, *rest: asked.append(study.sampler) or next(scores))
    found = run_released(Job(SETTING, RELEASED, SPECTRUM, "peak", 0, 6, {"some": "prior"}), Peak())
    assert asked == ["led", "led", "led", "led", f"{NO_PRIOR} None", "led"]
    assert found.tolist() == [0.5, 0.4, 0.4, 0.4, 0.6, 0.1]


def test_a_released_search_without_a_prior_to_leave_is_the_one_without():
    released = run(Job(SETTING, RELEASED, SPECTRUM, "peak", 0, 6), Peak())
    alone = run(Job(SETTING, NO_PRIOR, SPECTRUM, "peak", 0, 6), Peak())
    np.testing.assert_allclose(released, alone, rtol=1e-3)


def test_a_search_within_the_bound_of_its_own_seed_is_no_trap_whatever_the_budget_hides():
    """Of two seeds without prior (20, 30), guarded (32, 47), of which the budget of 40 ends the second."""
    trials = np.arange(1, 41)
    runs = {
        name: np.stack([np.where(trials >= count, 0.0, 0.5) for count in counts])[None]
        for name, counts in {GUARDED: (32, 47), NO_PRIOR: (20, 30)}.items()
    }
    found = trap_of("x", runs[GUARDED], runs[NO_PRIOR])
    assert found["x.trap.max_ratio"] == pytest.approx((36.5 - 2) / 25)
    assert found["x.trap.stuck_tasks"] == 0 and found["x.trap.undecided_tasks"] == 1


def test_the_report_names_who_breaks_the_bound():
    ledger = Ledger({(SETTING, name): 1.0 for name in "abc"})
    for task in "abc":
        for label, first in ((SPECTRUM, 20 if task == "a" else 2), (NO_PRIOR, 4), (GUARDED, 5), (RELEASED, 9)):
            for seed in range(2):
                scores = np.where(np.arange(40) >= first - 1, 1.0, 0.5)
                ledger.add(Job(SETTING, label, SPECTRUM, task, seed, 40), scores)
        for kind in KINDS:
            for label, lost in zip(LED, (0.4, 0.2, 0.1), strict=True):
                ledger.add(Job(SETTING, f"{label} {kind}", SPECTRUM, task, 0, 30), np.full(30, 1 - lost))
    lines: list[str] = []
    found = report(ledger, SETTING, lines)
    assert found[f"ssd.{SETTING}.trap.stuck_tasks"] == 1
    assert found[f"ssd.{SETTING}.{GUARDED}.trap.stuck_tasks"] == 0
    assert found[f"ssd.{SETTING}.trap.max_ratio"] == pytest.approx(18 / 4)
    assert found[f"ssd.{SETTING}.{RELEASED}.trap.max_ratio"] == pytest.approx(7 / 4)
    assert found[f"ssd.{SETTING}.every.{GUARDED}.win_rate_vs_no_prior"] == 0  # a trial later, and no trial ahead
    assert found[f"ssd.{SETTING}.every.median_trials.{NO_PRIOR}"] == 4
    alone = 3 * 0.5 / 30  # of the three trials before the search without prior arrives
    assert found[f"ssd.{SETTING}.{GUARDED}.adversarial.{KINDS[0]}.aur_ratio"] == pytest.approx(0.2 / alone)
    assert found[f"ssd.{SETTING}.{GUARDED}.adversarial.{KINDS[0]}.trap.stuck_tasks"] == 3  # none ever arrives
    assert any("`spectrum` on 1 tasks (most 4.50" in line for line in lines)


@pytest.mark.parametrize("label", [SPECTRUM, NO_PRIOR, GUARDED, RELEASED, f"{GUARDED} shifted", f"{RELEASED} shifted"])
def test_a_job_is_run_by_the_remedy_that_its_label_begins_with(label, monkeypatch):
    monkeypatch.setattr(bounded, "run_job", lambda job, task: "plain")
    monkeypatch.setattr(bounded, "_RUNS", {GUARDED: lambda job, task: GUARDED, RELEASED: lambda job, task: RELEASED})
    expected = label.split()[0] if label.split()[0] in (GUARDED, RELEASED) else "plain"
    assert run(Job(SETTING, label, SPECTRUM, "peak", 0, 6), Peak()) == expected


def test_a_fresh_task_is_searched_by_every_sampler():
    found, metrics = compete(Peak(), SETTING, None, Namespace(quick=True, seed=0))
    assert [row[0] for row in found] == [*LED, NO_PRIOR, "tpe"]
    solved = {label: metrics[f"fresh.peak.{SETTING}.trials.{label}"] for label in (*LED, NO_PRIOR)}
    assert solved[SPECTRUM] == solved[RELEASED] == solved[NO_PRIOR]  # without a prior to lead or to leave, they are one
    assert 0 < metrics[f"fresh.peak.{SETTING}.best_known"] < 1


def test_a_trap_among_fresh_tasks_is_counted():
    without = {SPECTRUM: 3, GUARDED: 6, RELEASED: 3, NO_PRIOR: 4}
    trap = {SPECTRUM: 16, GUARDED: 8, RELEASED: 9, NO_PRIOR: 4}
    nobody = dict.fromkeys(trap, 16)
    late = {SPECTRUM: 16, GUARDED: 12, RELEASED: 11, NO_PRIOR: 11}
    lines: list[str] = []
    found = trapped([without, trap, nobody, late], 15, lines)
    assert (found["fresh.spectrum.trap.stuck_tasks"], found["fresh.spectrum.trap.max_ratio"]) == (1, 14 / 4)
    assert found["fresh.guarded.trap.stuck_tasks"] == 0 and found["fresh.released.trap.stuck_tasks"] == 1
    assert found["fresh.spectrum.trap.undecided_tasks"] == 1 and found["fresh.guarded.trap.undecided_tasks"] == 0
    assert "- `spectrum` on 1 tasks (most at least 3.50; 1 undecided), of 3 tasks and goals" in lines
