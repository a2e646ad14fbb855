"""The transfer part of the competition: the search among recorded settings, and what its ablations hide."""

from argparse import Namespace
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from taught_of_ft import with_responses

from benchmarks.competition.adversarial import KINDS
from benchmarks.competition.hidden import ABLATED_OF, ABLATIONS
from benchmarks.competition.replay import Replay
from benchmarks.competition.transfer import (
    Recorded,
    averages,
    beliefs,
    in_any_order,
    measure_transfer,
    search,
    search_cautious,
    search_guarded,
    together,
)
from ssdtune.learning.fit_methods import rows_of
from ssdtune.prior.experience import BUNDLED, Experience, load_collection
from ssdtune.prior.method_inputs import METHOD_INPUTS
from ssdtune.surrogate.improvement import Goal
from ssdtune.surrogate.knob_belief import Foreseen

GOAL = Goal(0.2, 0.95)


@pytest.fixture(scope="module")
def recorded(experiences):
    return Recorded.of("ft", [with_responses(record, seed) for seed, record in enumerate(experiences)])


def test_a_search_that_knows_the_answers_begins_with_the_best(recorded):
    scores = recorded.scores(GOAL)
    for each, rows, places, s in zip(
        beliefs(averages(recorded), recorded), recorded.rows, recorded.places, scores, strict=True
    ):
        told = each._replace(members=np.repeat(rows.y.T[None], 2, axis=0), residual_sd=np.full((2, len(s)), 1e-3))
        np.testing.assert_allclose(search(told, places, rows, s, GOAL, 3), 0, atol=1e-9)
        alone = search(None, places, rows, s, GOAL, len(s))
        assert (np.diff(alone) <= 0).all() and alone[-1] == pytest.approx(0)  # no setting twice: all are tried


def test_a_guarded_search_has_found_in_time_what_one_without_prior_finds(recorded):
    trials = 10
    for goal in (GOAL, Goal(0.5, 0.0)):
        own = zip(
            beliefs(averages(recorded), recorded), recorded.places, recorded.rows, recorded.scores(goal), strict=True
        )
        for told, places, rows, s in own:
            alone, led, guarded = (
                way(each, places, rows, s, goal, trials)
                for way, each in ((search, None), (search, told), (search_guarded, told))
            )
            assert (guarded[:2] == led[:2]).all()
            for n in range(1, trials):
                if (by := int(1.5 * n + 2)) <= trials:
                    assert guarded[by - 1] <= alone[n - 1]


def test_a_task_of_few_settings_ends_where_all_are_tried(recorded):
    s = np.array([0.3, 0.9, 0.1])
    found = in_any_order(s, GOAL, 1, 0)
    assert found.shape[1] == 20 and np.allclose(found[:, 0], 0.6) and (found[:, 2:] == 0).all()
    rows = replace(recorded.rows[0], y=recorded.rows[0].y[:3])
    for way in (search, search_guarded):
        assert way(None, recorded.places[0][:3], rows, s, GOAL, 20)[-1] == 0


def test_members_of_all_fits_are_one_ensemble(recorded):
    fits = [beliefs(averages(recorded), recorded) for _ in range(2)]
    fits[1] = [each._replace(residual_sd=3 * each.residual_sd) for each in fits[1]]
    for one, both in zip(fits[0], together(fits), strict=True):
        assert both.members.shape == (2 * len(one.members), *one.members.shape[1:])
        np.testing.assert_allclose(both.residual_sd, 2 * one.residual_sd)


def test_a_cautious_search_begins_where_more_is_kept(recorded):
    n = len(recorded.places[0])
    retained = np.where(np.arange(n) < n // 2, 0.955, 0.99)  # the first half forgets more, and is barely feasible
    remembered = np.where(np.arange(n) < n // 2, 0.1, 0.3)
    members = np.repeat(np.stack([retained, remembered])[None], 2, axis=0)
    told = Foreseen(recorded.places[0], members, np.full((2, n), 1e-3), 1.0)
    rows, s = recorded.rows[0], np.arange(n) / n
    bold = search(told, recorded.places[0], rows, s, GOAL, 1)
    cautious = search_cautious(told, recorded.places[0], rows, s, GOAL, 1)
    assert s.max() - bold[0] < 0.5 <= s.max() - cautious[0]
    free = Goal(0.2, 0.0)
    ways = (search_cautious, search_guarded)
    own, guarded = (way(told, recorded.places[0], rows, s, free, 9) for way in ways)
    assert (own == guarded).all()


def test_an_average_is_of_other_families_alone(recorded):
    number = 0
    before = averages(recorded)[number].members
    for other in (number, len(recorded.rows) - 1):
        same = recorded.rows[other].family == recorded.rows[number].family
        rows = list(recorded.rows)
        rows[other] = rows[other].__class__(**{**vars(rows[other]), "y": rows[other].y * 0})
        after = averages(replace(recorded, rows=rows))[number].members
        assert np.allclose(before, after) == same


def test_ablations_hide_what_they_say(recorded):
    rows, names = recorded.rows[0], list(METHOD_INPUTS["ft"].local)
    shown = {name: ABLATIONS[name]("ft", recorded.records[0], rows) for name in ("no-features", "no-units")}
    assert len(set(shown["no-features"].features.values())) == 1 and (shown["no-features"].local == rows.local).all()
    hidden = shown["no-units"].local
    assert (hidden[:, names.index("log10_relative_rate")] == 0).all()
    assert (hidden[:, names.index("log10_lr")] == rows.local[:, names.index("log10_lr")]).all()


def test_a_group_of_features_is_hidden_alone(recorded):
    rows = recorded.rows[0]
    hidden = {
        name: ABLATIONS[name]("ft", recorded.records[0], rows).features for name in ("no-eigenvalues", "no-globals")
    }
    changed = {name: {key for key in rows.features if each[key] != rows.features[key]} for name, each in hidden.items()}
    assert {"forget_top_share", "retain_effective_rank"} <= changed["no-eigenvalues"]
    assert {"forget_loss", "tail_index"} <= changed["no-globals"]
    assert not changed["no-eigenvalues"] & changed["no-globals"]


@pytest.mark.parametrize("method", METHOD_INPUTS)
def test_every_ablation_of_a_method_hides_what_no_other_does(method):
    record = next(each for each in load_collection(BUNDLED) if isinstance(each, Experience))
    rows = rows_of(record, method)
    shown = [rows, *(ABLATIONS[name](method, record, rows) for name in ABLATED_OF[method])]
    assert len(shown) > 1
    for one, other in combinations(shown, 2):
        assert one.features != other.features or not np.allclose(one.local, other.local)


def test_every_goal_is_reported(recorded):
    chosen, lines = Namespace(quick=True, seed=0, collection="none", workers=0), []
    found = measure_transfer(chosen, [Replay(record) for record in recorded.records[:6]], lines)
    for goal in ("w0.2", "w0.5", "w0.2_min0.95", "w0.5_min0.95"):
        assert found[f"ft.{goal}.regret.transfer.1.lo"] <= found[f"ft.{goal}.regret.transfer.1"]
        assert found[f"ft.{goal}.regret.random.10"] <= found[f"ft.{goal}.regret.random.1"]
        for rival in ("tpe", "no_prior"):
            assert 0 <= found[f"ft.{goal}.win_rate_vs_{rival}"] <= 1
        ranks = [found[f"ft.{goal}.mean_rank.{name}"] for name in ("transfer", "no-members", "published", "random")]
        assert sum(ranks) == pytest.approx(10)
        wrong = [found[f"ft.{goal}.adversarial.{kind}.aur_ratio"] for kind in KINDS]
        assert found[f"ft.{goal}.adversarial.aur_ratio"] == max(wrong) > min(wrong) >= 0
        assert found[f"ft.{goal}.trap.stuck_tasks"] == 0  # by construction
        assert found[f"ft.{goal}.unguarded.trap.stuck_tasks"] in range(7)
        assert f"ft.{goal}.regret.together.3" in found
        assert (f"ft.{goal}.regret.cautious.3" in found) == goal.endswith("0.95")  # where something is to be kept
        assert {
            f"ft.{goal}.{way}.adversarial.{kind}.aur_ratio" for kind in KINDS for way in ("unguarded", "half-trust")
        } <= set(found)
    assert found["ft.tasks"] == 6
    with pytest.raises(SystemExit, match="no responses"):
        measure_transfer(chosen, [], lines)
