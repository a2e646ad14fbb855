"""The papers' tables: what is run, what counts as published, and the figures from results."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import small_task

from benchmarks.outcome.runs import Made
from benchmarks.papers import printed, runs, tables
from benchmarks.papers.runs import FRACTIONS, Plan, estimate, literal, plan_of, section_of
from benchmarks.papers.tables import Found, fraction_label, ranks, score_of, tuned_against_published
from benchmarks.papers.tasks import CASES, RATE, SEED, XUE
from ssdtune.unlearning.methods import choose_method

CASE = next(case for case in CASES if case.key == "xue-simulated")
SETS = ("retain", "test", "forget", "unseen")


def plan(tmp_path, *labels, fractions=(), trials=4):
    return Plan(labels, fractions, trials, 0, tmp_path)


def means(retain, forget, psnr=20.0):
    return {f"{n}_ssim": forget if n == "forget" else retain for n in SETS} | {f"{n}_psnr": psnr for n in SETS}


def keep(where, label, trials, runs_=(), model=0):
    """A tuned result of trials (cost, q_retain, q_forget), and a published one of measures."""
    tuned = {
        "label": label,
        "quality": "ssim",
        "floor": 0.5,
        "baseline": means(1.0, 1.0),
        "oracle": means(1.0, 0.5),
        "analysis": 0,
        "trials": [{"cost": cost, **means(retain, forget, 30.0)} for cost, retain, forget in trials],
    }
    for kind, found in {"tuned": tuned, "published": {"label": label, "runs": list(runs_), "weaker": []}}.items():
        if kind == "tuned" or runs_:
            place = where.place(CASE, model, kind, label)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(found))


def found(where, models=1):
    return Found(where, [CASE], models, 0)


def test_both_papers_have_a_simulated_and_a_real_task():
    assert {(case.paper, case.real) for case in CASES} == {(p, r) for p in (SEED, XUE) for r in (False, True)}
    for case in CASES:
        share = case.corrupted_slices / (case.corrupted_slices + 4 * case.retain)
        if case.paper == SEED:
            assert share == pytest.approx(0.3, abs=0.02)
            assert case.known / case.forget == 0.2
        else:
            assert share == pytest.approx(0.1, abs=0.02)
            assert case.known == case.forget


def test_labels_name_methods_and_shares_of_the_retain_data():
    assert section_of("ssd") == {"name": "ssd"}
    assert section_of("ft@10") == {"name": "ft", "retain_fraction": 0.1, "retain_slices": "all"}
    assert choose_method(section_of("ft@1")).options.retain_fraction == 0.01
    assert fraction_label("ft", 100) == "full-ft"
    assert fraction_label("nl-ft", 100) == "nl-ft@100"


def test_published_is_the_rate_of_the_training_for_a_tenth_of_its_steps():
    task = small_task.make_task()
    made = Made(task, "", 0)
    unit = math.sqrt(sum(value.numel() for value in task.params.values()))
    assert CASE.unlearning_steps == round(CASE.epochs * (4 * 28) / 4 / 10)
    found = literal(made, {"lr": 5.5, "steps": 20, "w_f": 1.0}, "ft", 28)
    assert found == {"lr": pytest.approx(RATE * unit), "steps": 28, "w_f": 1.0}
    assert literal(made, {"lr": 5.5, "steps": 20}, "bad-teacher", 28)["lr"] == pytest.approx(RATE / 10 * unit)
    assert literal(made, {"alpha": 10.0, "lambda": 1.0}, "ssd", 28) == {"alpha": 10.0, "lambda": 1.0}


def test_what_is_kept_is_not_run_again(tmp_path):
    where = plan(tmp_path, "ssd", "ft")
    assert where.missing(CASE, 0)[:2] == [("published", "ssd"), ("tuned", "ssd")]
    before = estimate(where, CASE, 0)
    keep(where, "ssd", [(1, 1, 1)], [means(1, 1)])
    assert ("tuned", "ssd") not in where.missing(CASE, 0)
    assert 0 < estimate(where, CASE, 0) < before
    (where.folder(CASE, 1)).mkdir(parents=True)
    (where.folder(CASE, 1) / "invalid").write_text("")
    assert where.missing(CASE, 1) == []


def test_shares_have_half_the_trials_where_no_first_table_needs_them(tmp_path):
    where = plan(tmp_path, "ssd", fractions=("ft@1", "ft@10"), trials=20)
    assert [where.budget(label) for label in ("ssd", "ft@10", "ft@1")] == [20, 20, 10]
    seed = next(case for case in CASES if case.paper == SEED)
    assert not [label for label in where.labels_of(seed) if "@" in label]
    assert "ft@10" in where.labels_of(CASE)


def test_methods_that_are_not_there_are_left_out_and_unknown_ones_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(runs, "METHODS", (*runs.METHODS, "yet-to-come"))
    assert plan_of(["ssd", "yet-to-come"], 4, 0, tmp_path, quick=True).labels == ("ssd",)
    assert "left out yet-to-come" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="no method 'sdd'"):
        plan_of(["sdd"], 4, 0, tmp_path, quick=True)


def test_the_best_feasible_trial_is_the_tuned_row(tmp_path):
    where = plan(tmp_path, "ssd")
    keep(where, "ssd", [(10, 0.9, 0.5), (10, 0.97, 0.8), (10, 1.0, 0.9)], [means(0.8, 0.6, 12.0)])
    assert found(where).mean("tuned", XUE, "ssd", "test_ssim") == 0.97
    assert found(where).mean("published", XUE, "ssd", "test_psnr") == 12
    assert found(where).mean("tuned", XUE, "oracle", "forget_ssim") == 0.5
    metrics = tables.paper_metrics(found(where))
    assert metrics["xue.tuned.ssd.ua_ssim"] == 0.8
    assert metrics["xue.original.ua_ssim"] == 1
    assert "xue.tuned.ft.ua_ssim" not in metrics


def test_order_is_the_share_of_pairs_as_printed(tmp_path):
    """Of ft, full-ft and ga-l1, printed in this order on brain test, ours has ga-l1 first: one pair of three agrees."""
    where = plan(tmp_path, "full-ft", "ga-l1", fractions=("ft@10",))
    for label, psnr in (("ft@10", 25.0), ("full-ft", 24.0), ("ga-l1", 26.0)):
        keep(where, label, [(1, 1, 1)], [means(1.0, 1.0, psnr)])
    lines, metrics = tables.first_table(found(where), XUE, real=False)
    assert metrics["xue.simulated.published.bta_order"] == pytest.approx(1 / 3)
    (row,) = [line for line in lines if line.startswith("| ga-l1 ")]
    assert "3, 1, " in row
    assert "16.19" in row


def test_published_that_is_better_than_tuned_is_named(tmp_path):
    where = plan(tmp_path, "ssd", "ft")
    keep(where, "ssd", [(1, 1.0, 0.9)], [means(1.0, 0.5)])
    keep(where, "ft", [(1, 1.0, 0.5)], [means(0.9, 0.5)])
    lines, metrics = tuned_against_published(found(where))
    assert lines[-1] == "Tuned is less: ssd on xue-simulated model 0 by 0.640."
    assert metrics["published.ssd.s"] == pytest.approx(1)
    assert metrics["published.ft.s"] == 0.2  # infeasible: the untouched model's
    study = found(where).studies[CASE, 0, "ssd"]
    assert score_of(study, means(math.nan, 0.5)) == 0.2


def test_ranks_are_over_complete_models_at_equal_trials_and_cost(tmp_path):
    where = plan(tmp_path, "ssd", "ft", "ng")
    for model in range(2):
        keep(where, "ssd", [(1, 1.0, 0.9)], model=model)
        keep(where, "ft", [(10, 1.0, 0.8)], model=model)
        keep(where, "ng", [(8, 1.0, 0.85), (8, 1.0, 0.5)], model=model)
    keep(where, "ssd", [(1, 1.0, 0.5)], model=2)  # the others are not there yet
    lines, metrics = ranks(found(where, models=3))
    assert "2 trained models" in lines[0]
    assert [metrics[f"rank.{label}"] for label in ("ng", "ft", "ssd")] == [1, 2, 3]
    assert [metrics[f"rank_at_cost.{label}"] for label in ("ft", "ng", "ssd")] == [1, 2, 3]


def test_every_printed_table_is_whole():
    assert set(printed.XUE_TABLE_3) == set(FRACTIONS)
    assert set(printed.XUE_TABLE_2) <= set(printed.XUE_TABLE_1)
    for paper, table in tables.PRINTED.items():
        for row in table.values():
            assert set(row) == set(tables.COLUMNS[paper])
            assert {len(values) for values in row.values()} == {len(tables.MEASURES[paper])}
            assert np.isfinite(list(row.values())).all()


def test_a_setting_is_measured_as_published_on_a_real_network(mri_task):
    task = mri_task(oracle=mri_task(seed=1).model)
    case = SimpleNamespace(unlearning_steps=5, paper=XUE, key="small")
    found = runs.published(case, Made(task, "", 0), "ft@50")
    (run,) = found["runs"]
    assert 0 < run["cost"] <= 3 * 4 * 5
    assert {"retain_ssim", "forget_psnr", "unknown_clean_ssim"} <= run.keys()
    fifths = runs.published(case, Made(task, "", 0), "full-ft")["runs"]
    assert [run["setting"]["steps"] for run in fifths] == [1, 2, 3, 4, 5]


def test_first_tables_and_other_shares_are_all_that_is_missing(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(runs, "run_in_processes", lambda work, items, workers, **_: jobs.extend(items))
    where = plan_of([], 4, 0, tmp_path, quick=False)
    runs.run_all(where, CASES, 2, 1)
    for model in range(2):
        parts = [part.missing(case, of) for part, case, of in jobs if case == CASE and of == model]
        assert {item for part in parts for item in part} == set(where.missing(CASE, model))
    assert [of for _, _, of in jobs] == sorted(of for _, _, of in jobs)
