"""Numbers and page of a comparison: budgets cut the curves, everything is billed, the page is small, loads nothing."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from ssdtune.errors import ConfigError
from ssdtune.report.comparison import Comparison, Run, comparison_table, read_run, verdict
from ssdtune.report.comparison_figures import curves_over_cost, radar_values, write_figures
from ssdtune.report.comparison_page import trials_table, write_comparison
from ssdtune.report.panels import SlicePicture, draw_side_by_side
from ssdtune.report.view import read_view
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.tune import prepare


@pytest.fixture(scope="module")
def studies(task):
    """``studies[label]`` of two methods, two seeds each."""
    from ssdtune.study.create import create_study
    from ssdtune.studyfile import ScoreSection, SearchSection

    found = {}
    for label, trials in (("ft", 4), ("ssd", 3)):
        method = {"name": label, **({"steps": [1, 3]} if label == "ft" else {})}
        for seed in range(2):
            search = SearchSection(sampler="random", trials=trials, seed=seed)
            study = create_study(task, name=f"{label}-{seed}", method=method, search=search, score=ScoreSection())
            run_study(study, task, prepare(read_record(study), task))
            found.setdefault(label, []).append(study)
    return found


@pytest.fixture(scope="module")
def runs(studies):
    return {label: [read_run(read_view(study), study.user_attrs) for study in each] for label, each in studies.items()}


@pytest.fixture(scope="module")
def comparison(runs):
    return Comparison(runs)


def test_bills_and_curves_are_those_of_the_trials(runs, task):
    run = runs["ssd"][0]
    costs = [item.trial.user_attrs["measures"]["cost"] for item in run.view.trials]
    once = 3 * (len(task.retain) + len(task.forget))
    assert run.bill.tolist() == pytest.approx([once + sum(costs[: count + 1]) for count in range(len(costs))])
    assert runs["ft"][0].preparation[0] == 0
    start, curve = run.view.untouched.value, run.curve
    assert float(run.within(once - 1)) == start
    assert [float(run.within(bill)) for bill in run.bill] == curve.tolist()
    assert run.after(1) == curve[0] and run.after(99) == curve[-1]
    assert (np.diff(curve) >= 0).all() and curve[0] >= start


def test_equal_budgets_are_the_shortest_and_the_cheapest_or_those_asked_for(comparison, runs):
    everything = [run for each in runs.values() for run in each]
    assert comparison.trials == 3
    assert comparison.cost == min(run.cost for run in everything)
    for label, best in comparison.at_equal_trials().items():
        assert best.tolist() == [run.curve[2] for run in runs[label]]
    asked = Comparison(runs, asked_trials=2, asked_cost=1e9)
    assert asked.at_equal_trials()["ft"].tolist() == [run.curve[1] for run in runs["ft"]]
    assert asked.at_equal_cost()["ft"].tolist() == [run.curve[-1] for run in runs["ft"]]


def test_a_method_without_knobs_is_a_level_line_that_cuts_no_other(runs):
    view = runs["ssd"][0].view
    one = replace(view, record=replace(view.record, knobs=()), trials=view.trials[:1])
    comparison = Comparison({**runs, "fixed": [Run(one, (0.0, 0.0))]})
    assert comparison.trials == 3
    assert comparison.cost == Comparison(runs).cost
    level = curves_over_cost(comparison, "fixed", np.array([1.0, 1e6])).centre
    assert level.tolist() == [view.untouched.value, Run(one, (0.0, 0.0)).curve[0]]


def test_rows_are_in_the_order_of_the_best_mean(comparison):
    document = comparison.document()
    values = [row["s"] for row in document["methods"].values()]
    assert values == sorted(values, reverse=True)
    assert list(document["methods"]) == comparison.order == [row[0] for row in comparison_table(comparison).rows]
    for row in document["methods"].values():
        assert row["s"] == pytest.approx(np.mean(row["s_each"]))
        assert math.isnan(row["oracle_distance"])  # the task has no oracle
    assert f"at {comparison.trials} trials {comparison.order[0]}" in verdict(comparison)


def test_closeness_is_1_at_the_oracle_and_0_at_the_untouched_model(runs):
    def with_oracle(run, of):
        record = run.view.record
        best = run.measured(run.view.best)
        oracle = {name: best[name] if of == "best" else record.baseline[name] for name in record.baseline}
        baseline = {name: value + 0.5 for name, value in record.baseline.items()}
        return Run(replace(run.view, record=replace(record, oracle=oracle, baseline=baseline)), run.preparation)

    for of, expected in (("best", 1.0), ("untouched", None)):
        run = with_oracle(runs["ft"][0], of)
        axes, shares, close = radar_values(Comparison({"ft": [run]}))
        assert axes == ["BTA (CONFIDENCE)", "UA (CONFIDENCE)", "KTA (CONFIDENCE)", "1/RTE"]
        assert set(shares) == {"ft", "oracle"}
        assert all(((row >= 0) & (row <= 1)).all() for row in (*shares.values(), *close.values()))
        if expected is not None:
            assert close["ft"] == pytest.approx([expected] * 3)
            assert run.oracle_distance == pytest.approx(0)


def test_what_cannot_be_compared_is_refused(runs):
    view = runs["ft"][0].view
    with pytest.raises(ConfigError, match="no finished trial yet"):
        Comparison({"ft": [Run(replace(view, trials=[]), (0.0, 0.0))]})
    other = replace(view, record=replace(view.record, rule=replace(view.record.rule, retain_weight=0.9)))
    with pytest.raises(ConfigError, match="different score rules"):
        Comparison({**runs, "other": [Run(other, (0.0, 0.0))]})


def test_the_page_loads_nothing_and_is_small(comparison, tmp_path):
    lines = {"ft": "ssdtune study apply ft-0 --trial 1 --out ft.pt"}
    path = write_comparison(comparison, "field", tmp_path / "page.html", apply_lines=lines, failed={"nl": "no luck"})
    page = path.read_text()
    assert path.stat().st_size < 2e6
    assert "<script" not in page and "http" not in re.sub(r"data:image[^\"]*", "", page).replace("http-equiv", "")
    assert page.count("data:image/svg+xml") == len(write_figures(comparison, tmp_path))
    for words in ("Best is at 3 trials", lines["ft"], "nl did not get through: no luck", "critical difference at 0.05"):
        assert words in page


def test_the_page_fits_a_phone_and_a_desk(comparison, tmp_path, screen):
    path = write_comparison(comparison, "field", tmp_path / "page.html", apply_lines={"ft": "apply"}, failed={})
    assert screen(path) == []


def test_figures_tell_their_methods_and_are_the_same_again(comparison, tmp_path):
    first, again = (write_figures(comparison, tmp_path) for _ in range(2))
    assert set(first) >= {"curves_trials", "curves_cost", "front", "radar_quality", "ranks_trials", "ranks_cost"}
    assert first == again
    for path in first.values():
        text = path.read_text()
        assert "ft" in text and "ssd" in text


def test_trials_are_counted_by_what_became_of_them(comparison):
    for row in trials_table(comparison).rows:
        label, trials, feasible, infeasible, diverged = row[:5]
        assert trials == sum(len(run.view.trials) for run in comparison.runs[label])
        assert feasible + infeasible + diverged == trials


def test_models_side_by_side_break_into_rows(tmp_path):
    image = np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32)
    measured = {"ssim": 0.9, "psnr": 30.0}
    picture = SlicePicture("retain", "a:0", image, image, image**2, measured, measured)
    sizes = []
    for count in (1, 9):
        path = draw_side_by_side({f"m{number}": picture for number in range(count)}, tmp_path / f"{count}.webp", "a")
        assert path.read_bytes()[8:12] == b"WEBP"
        from PIL import Image

        sizes.append(Image.open(path).size)
    assert sizes[1][1] > 1.6 * sizes[0][1]
