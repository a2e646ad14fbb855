"""The competition page says what the regret arrays say."""

import math
from html import unescape

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.report.competition import Competition, competition_page, numbers_table, verdict
from ssdtune.report.competition_figures import critical_difference_figure, regret_figure, solved_figure
from ssdtune.report.knobs import Points, places_figure
from ssdtune.report.page import Section, Text, render
from ssdtune.report.ranking import rank_test
from ssdtune.report.regret import area_under_regret, mean_band, solved_curve
from ssdtune.report.ssd_plane import interpolate
from ssdtune.unlearning.method import Knob

TASKS, SEEDS, TRIALS = 6, 2, 12


def runs(rate, seed):
    scale = np.random.default_rng(seed).uniform(0.4, 0.6, (TASKS, SEEDS, 1))
    return scale * np.exp(-rate * np.arange(TRIALS))


@pytest.fixture
def competition():
    return Competition(
        {"spectrum": runs(2.0, 0), "tpe": runs(0.4, 1), "random": runs(0.1, 2)}, [f"task {n}" for n in range(TASKS)]
    )


KNOBS = Knob("alpha", 0.1, 100), Knob("lambda", 0.1, 100)


def points(seed, count=30, knobs=KNOBS):
    rng = np.random.default_rng(seed)
    logs = rng.uniform(-1, 2, (count, len(knobs)))
    return Points(knobs, 10**logs, logs @ np.arange(1, 1 + len(knobs)), rng.random(count) < 0.7)


def trace(figure, name):
    (found,) = [data for data in figure.data if data.name == name]
    return found


def test_curves_are_the_mean_over_tasks(competition):
    figure = regret_figure({name: mean_band(curves) for name, curves in competition.curves().items()})
    for name, array in competition.regret.items():
        shown = trace(figure, name)
        np.testing.assert_allclose(shown.y, array.mean((0, 1)))
        assert list(shown.x) == list(range(1, TRIALS + 1))
        assert (np.array(trace(figure, f"{name} low").y) <= np.array(shown.y)).all()
        assert (np.array(trace(figure, f"{name} high").y) >= np.array(shown.y)).all()


def test_one_task_is_judged_over_its_seeds_and_one_run_has_no_band():
    array = runs(1.0, 0)[:1]
    single = Competition({"a": array, "b": array / 2}, ["only"])
    assert single.blocks == "seeds"
    np.testing.assert_array_equal(single.curves()["a"], array[0])
    lone = Competition({"a": array[:, :1], "b": array[:, :1]}, ["only"])
    figure = regret_figure({name: mean_band(curves) for name, curves in lone.curves().items()})
    assert [data.name for data in figure.data] == ["a", "b"]
    assert lone.ranks(10) is None
    assert "Too few" in render(competition_page(lone, "lone"))


def test_metrics_are_worked_out_from_the_arrays(competition):
    metrics = competition.metrics()
    counts = [[1 + sum(r > 0.01 for r in run) for run in task] for task in competition.regret["spectrum"]]
    assert metrics["median_trials.spectrum"] == np.median([np.median(task) for task in counts])
    assert metrics["median_trials.random"] == math.inf
    assert metrics["regret.tpe.5"] == pytest.approx(competition.regret["tpe"][:, :, 4].mean())
    assert "regret.tpe.15" not in metrics, "the budget is 12"
    assert metrics["mean_rank_10.spectrum"] == 1.0
    assert metrics["win_rate.spectrum"] == 1.0
    assert metrics["win_rate.random"] == 0.0
    assert "win_rate.tpe" not in metrics


def test_the_page_says_all_of_it(competition):
    places = {name: points(place) for place, name in enumerate(competition.regret)}
    settings = {"tpe": "TPESampler, 10 start-up trials"}
    more = [Section("What they were given", [Text("a hint")])]
    page = competition_page(competition, "ghosts", places=places, settings=settings, more=more)
    html = unescape(render(page)).replace("<wbr>", "")
    assert verdict(competition) in html
    assert "random >12" in verdict(competition)
    for row in numbers_table(competition).cells:
        assert all(f"{cell}</td>" in html for cell in row)
    test = competition.ranks(10)
    assert f"critical difference {test.critical_difference:.2f}" in html
    assert test.test in html
    assert settings["tpe"] in html
    for heading in (
        "Regret",
        "Trials to target",
        "Ranks",
        "What they were given",
        "Where each sampler looked",
    ):
        assert f"<h2>{heading}</h2>" in html


def test_solved_figure_ends_at_the_share_that_arrived(competition):
    curves = {name: solved_curve(trials, competition.budget) for name, trials in competition.trials().items()}
    figure = solved_figure(curves)
    for name, trials in competition.trials().items():
        assert trace(figure, name).y[-1] == pytest.approx(np.isfinite(trials).mean())


def test_critical_difference_diagram_places_every_sampler_at_its_rank(competition):
    losses = {name: area_under_regret(curves, 10) for name, curves in competition.curves().items()}
    test = rank_test(losses)
    order = list(competition.regret)
    figure = critical_difference_figure(test, "ranks", order)
    regret = regret_figure({name: mean_band(curves) for name, curves in competition.curves().items()})
    for name, rank in test.mean_ranks.items():
        leader = trace(figure, name)
        assert leader.x[0] == rank
        assert leader.line.color == trace(regret, name).line.color
        assert any(f"{rank:.2f}" in note.text and name in note.text for note in figure.layout.annotations)
    for group in test.groups:
        bar = trace(figure, " = ".join(group))
        assert bar.x[0] <= min(test.mean_ranks[name] for name in group)
        assert bar.x[-1] >= max(test.mean_ranks[name] for name in group)
    (rule,) = [shape for shape in figure.layout.shapes if shape.y0 == shape.y1]
    assert rule.x1 - rule.x0 == pytest.approx(test.critical_difference)


def test_places_show_every_trial_in_order_and_star_the_best_feasible():
    places = {"tpe": points(0), "random": points(1)}
    figure = places_figure(places)
    for name, part in places.items():
        shown = trace(figure, name)
        np.testing.assert_array_equal(np.column_stack([shown.x, shown.y]), part.settings)
        np.testing.assert_array_equal(shown.marker.color, range(1, 31))
        assert [symbol == "circle" for symbol in shown.marker.symbol] == part.feasible.tolist()
        best = np.argmax(np.where(part.feasible, part.score, -np.inf))
        assert trace(figure, f"best of {name}").x[0] == part.settings[best, 0]


def test_measured_surface_is_exact_where_the_score_is_linear():
    """Linear interpolation in the logs reproduces log alpha + 2 log lambda inside the points."""
    alpha, lam, score = interpolate(points(0, 200))
    wanted = np.log10(alpha)[None, :] + 2 * np.log10(lam)[:, None]
    inside = np.isfinite(score)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(score[inside], wanted[inside], atol=1e-9)


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_points_for_a_surface(count):
    assert np.isnan(interpolate(points(0, count))[2]).all()


def test_places_of_three_knobs_are_parallel_coordinates_and_of_one_its_score():
    three = points(0, knobs=(*KNOBS, Knob("steps", 1, 100, "linear", integer=True)))
    figure = places_figure({"tpe": three, "random": three})
    rows = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert list(rows) == ["sampler", "trial", "alpha", "lambda", "steps", "feasible", "s"]
    np.testing.assert_array_equal(rows["sampler"].x, [0] * 30 + [1] * 30)
    assert {"tpe", "random"} <= {note.text for note in figure.layout.annotations}
    np.testing.assert_allclose(1 + 99 * np.array(rows["steps"].x), np.tile(three.settings[:, 2], 2))
    one = points(0, knobs=KNOBS[:1])
    np.testing.assert_array_equal(trace(places_figure({"tpe": one}), "tpe").y, one.score)


def test_samplers_with_different_runs_are_refused():
    with pytest.raises(ConfigError, match="same tasks, seeds and trials"):
        Competition({"a": np.ones((2, 1, 3)), "b": np.ones((2, 1, 4))}, ["x", "y"])
    with pytest.raises(ConfigError, match="for 3 tasks"):
        Competition({"a": np.ones((2, 1, 3))}, ["x", "y", "z"])
