"""Replaying recorded tasks: exact where measured, untouched where nothing is selected, folded, and never regretful
again."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.competition import runs
from benchmarks.competition.replay import Replay
from benchmarks.competition.runs import BOX, NO_PRIOR, SETTINGS, SPECTRUM, Job, read_kept, regret_of, run_all, run_job
from benchmarks.competition.tables import Ledger, sampler_metrics, win_metrics
from ssdtune.errors import DataError
from ssdtune.learning.design import CHECKS, NODES, checks, refine
from ssdtune.plane.settings import GRID_RHO, LINE_KAPPA, LINE_RHO
from ssdtune.prior.experience import Experience
from ssdtune.surrogate.improvement import Goal


def thresholds(rho):
    return 8 * rho**-0.4 - 7.5


def response(rho, kappa):
    damage = np.log(rho) - 0.4 * np.log(kappa)
    return 0.4 + 0.6 / (1 + np.exp(2 * (damage + 1))), 1.1 / (1 + np.exp(2 * (damage + 3))) - 0.1


def damage(rho, kappa):
    """Of both sets; with a heavy parameter that crosses the threshold at rho = 0.02."""
    return (np.sqrt(rho) * (1 - kappa / 2) + 0.3 * (rho > 0.02) * (1 - kappa)) ** 2


def make_experience(response=response):
    places = refine(lambda place: np.clip(response(LINE_RHO[place[1]], LINE_KAPPA[place[0]]), 0, 1))
    lines, nodes = np.array(places).T
    check_rho, check_kappa = checks("toy")
    rho, kappa = np.append(LINE_RHO[nodes], check_rho), np.append(LINE_KAPPA[lines], check_kappa)
    retained, remembered = response(rho, kappa)
    along = damage(LINE_RHO[:, None], LINE_KAPPA)
    return Experience(
        key="toy",
        family="none/brain",
        recipe={},
        q_retain="retain_ssim",
        q_forget="forget_ssim",
        baseline={"retain_ssim": 0.8, "forget_ssim": 0.9},
        oracle={"retain_ssim": 0.8, "forget_ssim": 0.5},
        alpha=thresholds(rho),
        lam=thresholds(rho) * kappa,
        measures={"retain_ssim": 0.8 * retained, "forget_ssim": 0.5 + 0.4 * remembered},
        features={"phi": 0.1},
        tables={
            "grid_alpha": thresholds(GRID_RHO),
            "design_rho": rho,
            "line_alpha": thresholds(LINE_RHO),
            "line_retain_diagonal": along,
            "line_forget_diagonal": along,
        },
    )


@pytest.fixture(scope="module")
def replay():
    return Replay(make_experience())


def test_interpolation_is_exact_at_the_nodes(replay):
    e = replay.experience
    found = replay.outputs(e.alpha[:NODES], e.lam[:NODES])
    np.testing.assert_allclose(found, replay.measured[:, :NODES], atol=1e-9)


def test_interpolation_is_close_between_the_nodes(replay):
    errors = replay.check_errors(Goal(0.2, 0))
    assert errors.shape == (CHECKS,)
    assert errors.max() < 0.02


def test_a_cliff_lies_where_the_damage_says():
    def with_a_cliff(rho, kappa):
        fall = np.sqrt(damage(rho, kappa))
        return 1 - 0.5 * fall, np.maximum(1 - 2 * fall, 0)

    replay = Replay(make_experience(with_a_cliff))
    place = int(np.searchsorted(LINE_RHO, 0.02))
    for at in (place - 1, place):
        found = replay.at(np.log(LINE_RHO[at]), np.log(0.3))[:, 0]
        np.testing.assert_allclose(found, with_a_cliff(LINE_RHO[at], 0.3), atol=1e-3)


def test_thresholds_and_selected_fractions_are_inverse(replay):
    for rho in (1e-4, 3e-3, 0.05, 0.6):
        assert replay.selected_fraction(replay.alpha_at(rho)) == pytest.approx(rho)


def test_nothing_selected_is_the_untouched_model(replay):
    rho = np.log(LINE_RHO[0]) - np.array([0.0, 1.0, 3.0, 12.0])
    distance = np.abs(replay.at(rho, np.full(4, np.log(0.3))) - 1)
    assert (np.diff(distance, axis=1) < 0).all()
    assert distance[:, -1].max() < 1e-4


def test_lambda_above_alpha_folds(replay):
    np.testing.assert_allclose(replay.outputs(2.0, 5.0), replay.outputs(5.0, 5.0), rtol=1e-12)


def test_the_best_known_is_feasible_and_not_below_any_setting(replay):
    rng = np.random.default_rng(1)
    alpha, lam = (np.exp(rng.uniform(*np.log(side), 3000)) for side in (BOX.alpha, BOX.lam))
    for goal in SETTINGS.values():
        best = replay.best(goal, BOX)
        s, feasible = replay.scores(alpha, lam, goal)
        assert best >= goal.untouched
        assert s[feasible].max() <= best + 2e-3


@pytest.mark.parametrize("sampler", [SPECTRUM, "tpe", "tpe-plane", "random"])
def test_regret_never_grows_and_infeasible_trials_do_not_count(replay, sampler):
    setting = "w0.2_min0.95"
    goal = SETTINGS[setting]
    job = Job(setting, sampler, sampler, replay.key, 0, 8)
    found = run_job(job, replay)
    again = run_job(job, replay)
    np.testing.assert_allclose(found, again, rtol=1e-3)  # a fit ends where its CPU's rounding leads it
    best = replay.best(goal, BOX)
    regret = regret_of(found, best, goal)
    assert (np.diff(regret) <= 0).all()
    assert regret[0] <= best - goal.untouched
    assert regret_of(np.full(3, -np.inf), best, goal) == pytest.approx(best - goal.untouched)


def test_ledger_counts_a_censored_run_as_beyond_the_budget():
    ledger = Ledger({("w0.2", name): 1.0 for name in "ab"})
    for task in "ab":
        for label, gain in ((NO_PRIOR, 0.995), ("tpe", 0.5)):
            found = np.full(40, 0.3)
            found[4:] = gain
            ledger.add(Job("w0.2", label, label, task, 0, 40), found)
    assert sampler_metrics(ledger, "w0.2", NO_PRIOR)["w0.2.median_trials.no-prior"] == 5
    assert sampler_metrics(ledger, "w0.2", "tpe")["w0.2.median_trials.tpe"] == 41
    assert win_metrics(ledger, "w0.2", NO_PRIOR)["w0.2.win_rate_vs_tpe"] == 1


def test_kept_runs_are_read_back_but_our_own_of_other_code(replay, tmp_path, monkeypatch):
    jobs = [Job("w0.2_min0.95", name, name, replay.key, 0, 6) for name in ("random", SPECTRUM)]
    kept = tmp_path / "runs.jsonl"

    def run() -> list[list[float]]:
        return [found.tolist() for _, found in run_all(jobs, {replay.key: replay}, 0, kept)]

    first = run()
    assert run() == first and len(kept.read_text().splitlines()) == 2
    jobs[1] = replace(jobs[1], label="another")  # what is run goes by the label
    run()
    assert len(kept.read_text().splitlines()) == 3
    monkeypatch.setattr(runs, "_code", lambda: "other")
    np.testing.assert_allclose(run(), first, rtol=1e-3)  # a fit ends where its CPU's rounding leads it
    assert len(kept.read_text().splitlines()) == 4


@pytest.mark.parametrize("words", ["no JSON", '{"s": [0.5]}', "[1]", "7"])
def test_a_file_of_other_things_keeps_no_runs_and_stays_as_it_is(words, tmp_path):
    (kept := tmp_path / "runs.jsonl").write_text(words + "\n")
    with pytest.raises(DataError, match="no runs can be kept there") as refused:
        read_kept(kept)
    assert "\n" not in str(refused.value) and str(kept) in str(refused.value)
    assert kept.read_text() == words + "\n"


def test_a_place_where_no_file_can_be_keeps_no_runs(tmp_path):
    (taken := tmp_path / "taken").write_text("")
    for place in (tmp_path, taken / "runs.jsonl"):
        with pytest.raises(DataError, match="no runs can be kept there"):
            read_kept(place)
    assert read_kept(tmp_path / "new" / "runs.jsonl") == {}
