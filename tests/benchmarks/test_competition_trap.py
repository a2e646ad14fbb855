"""A search that cannot be trapped: within 1.5 times the trials and 2 it has found what one without prior finds."""

from argparse import Namespace

import numpy as np
import pytest

from benchmarks.competition.adversarial import KINDS
from benchmarks.competition.fresh import compete, trapped
from benchmarks.competition.runs import HALF_TRUST, LED, NO_PRIOR, SPECTRUM, UNGUARDED, Job, run_job
from benchmarks.competition.tables import TRAP_GRACE, TRAP_RATIO, Ledger, trap_of
from benchmarks.competition.trap import TOLD, misled, report, told
from ssdtune.samplers import guard
from tests.samplers.test_spectrum import PRIOR

SETTING = "w0.2_min0.95"


class Peak:
    """A task whose response is known in closed form: less is remembered, and less retained, as more is selected."""

    key = "peak"

    def outputs(self, alpha, lam):
        harsh = np.log10(300 / alpha) / 4 + np.log10(300 / lam) / 8
        return np.array([[1 - 0.2 * harsh**2], [np.exp(-2 * harsh)]])


def test_the_bound_is_the_samplers():
    assert (guard.RATIO, guard.GRACE) == (TRAP_RATIO, TRAP_GRACE)


@pytest.mark.parametrize("label", LED)
def test_of_the_searches_with_a_prior_one_is_bounded(label):
    told = PRIOR.response.to_json()
    found = run_job(Job(SETTING, label, label, "peak", 0, 6, told), Peak())
    alone = run_job(Job(SETTING, NO_PRIOR, SPECTRUM, "peak", 0, 3), Peak())
    own = np.isclose(found[[2, 4, 5]], alone, rtol=1e-3)  # a fit ends where its CPU's rounding leads it
    assert own.all() if label == SPECTRUM else not own.all()


def test_a_search_within_the_bound_of_its_own_seed_is_no_trap_whatever_the_budget_hides():
    """Of two seeds without prior (20, 30), with one (32, 47), of which the budget of 40 ends the second."""
    trials = np.arange(1, 41)
    runs = {
        name: np.stack([np.where(trials >= count, 0.0, 0.5) for count in counts])[None]
        for name, counts in {SPECTRUM: (32, 47), NO_PRIOR: (20, 30)}.items()
    }
    found = trap_of("x", runs[SPECTRUM], runs[NO_PRIOR])
    assert found["x.trap.max_ratio"] == pytest.approx((36.5 - 2) / 25)
    assert found["x.trap.stuck_tasks"] == 0 and found["x.trap.undecided_tasks"] == 1


def test_the_report_names_who_breaks_the_bound():
    ledger = Ledger({(SETTING, name): 1.0 for name in "abc"})
    for task in "abc":
        firsts = {SPECTRUM: 5, NO_PRIOR: 4, HALF_TRUST: 9, UNGUARDED: 20 if task == "a" else 2}
        for label, first in firsts.items():
            for seed in range(2):
                scores = np.where(np.arange(40) >= first - 1, 1.0, 0.5)
                ledger.add(Job(SETTING, label, label, task, seed, 40), scores)
        for kind in KINDS:
            for label, lost in zip(TOLD, (0.2, 0.4, 0.1), strict=True):
                ledger.add(Job(SETTING, misled(label, kind), label, task, 0, 30), np.full(30, 1 - lost))
    lines: list[str] = []
    found = report(ledger, SETTING, lines)
    assert found[f"ssd.{SETTING}.trap.stuck_tasks"] == 0
    assert found[f"ssd.{SETTING}.trap.max_ratio"] == pytest.approx(3 / 4)
    assert found[f"ssd.{SETTING}.{UNGUARDED}.trap.stuck_tasks"] == 1
    assert found[f"ssd.{SETTING}.{UNGUARDED}.trap.max_ratio"] == pytest.approx(18 / 4)
    assert found[f"ssd.{SETTING}.every.{SPECTRUM}.win_rate_vs_no_prior"] == 0  # a trial later, and no trial ahead
    assert found[f"ssd.{SETTING}.every.median_trials.{NO_PRIOR}"] == 4
    alone = 3 * 0.5 / 30  # of the three trials before the search without prior arrives
    assert found[f"ssd.{SETTING}.{SPECTRUM}.adversarial.{KINDS[0]}.aur_ratio"] == pytest.approx(0.2 / alone)
    assert found[f"ssd.{SETTING}.{UNGUARDED}.adversarial.{KINDS[0]}.trap.stuck_tasks"] == 3  # none ever arrives
    assert any("`unguarded` on 1 tasks (most 4.50" in line for line in lines)


def test_half_the_trust_is_half_the_trust_in_the_same_prior():
    response = PRIOR.response.to_json()
    whole, half, alone = (told(SETTING, label, "peak", 0, 6, response) for label in (SPECTRUM, HALF_TRUST, NO_PRIOR))
    assert whole.response == response and half.response == {**response, "trust": response["trust"] / 2}
    assert alone.response is None and {each.sampler for each in (whole, half, alone)} == {SPECTRUM}


def test_a_fresh_task_is_searched_by_every_sampler():
    found, metrics = compete(Peak(), SETTING, PRIOR.response.to_json(), Namespace(quick=True, seed=0))
    assert [row[0] for row in found] == [*LED, NO_PRIOR, "tpe"]
    first = {label: metrics[f"fresh.peak.{SETTING}.regret.{label}.1"] for label in (*LED, NO_PRIOR)}
    assert first[SPECTRUM] == first[UNGUARDED] != first[NO_PRIOR]
    assert 0 < metrics[f"fresh.peak.{SETTING}.best_known"] < 1


def test_a_trap_among_fresh_tasks_is_counted():
    without = {SPECTRUM: 6, UNGUARDED: 3, NO_PRIOR: 4}
    trap = {SPECTRUM: 8, UNGUARDED: 16, NO_PRIOR: 4}
    nobody = dict.fromkeys(trap, 16)
    late = {SPECTRUM: 12, UNGUARDED: 16, NO_PRIOR: 11}
    lines: list[str] = []
    found = trapped([without, trap, nobody, late], 15, lines)
    assert (found["fresh.unguarded.trap.stuck_tasks"], found["fresh.unguarded.trap.max_ratio"]) == (1, 14 / 4)
    assert found["fresh.spectrum.trap.stuck_tasks"] == 0
    assert found["fresh.unguarded.trap.undecided_tasks"] == 1 and found["fresh.spectrum.trap.undecided_tasks"] == 0
    assert "- `unguarded` on 1 tasks (most at least 3.50; 1 undecided), of 3 tasks and goals" in lines
