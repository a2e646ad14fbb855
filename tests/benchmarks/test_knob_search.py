"""The search over a method's knobs in real studies: which tasks, what is missing, and the figures from what is kept."""

import json
from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks import knob_search
from benchmarks.knob_search import CASES, Plan, choose_cases, report
from ssdtune.prior.mapper import SpectrumMapper
from ssdtune.study.prior import read_prior, study_sampler
from ssdtune.study.record import read_record

TASKS = [case for case in CASES if case.recipe is not None][:2]


def kept(folder, case, **runs):
    """A task's plan with the given trials kept, by sampler; one seed."""
    plan = Plan(case, ["ft"], {"ft": 3}, 1, folder)
    for sampler, scores in runs.items():
        place = plan.place("ft", sampler.replace("_", "-"), 0)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(scores))
    return plan


def test_regret_is_to_the_best_that_any_sampler_found(tmp_path):
    plans = [
        kept(tmp_path, TASKS[0], ei=[0.9, 0.5, 0.9], ei_alone=[None, 0.8, 0.9], tpe=[0.1, 0.7, 0.905]),
        kept(tmp_path, TASKS[1], ei=[0.6, 0.8, 0.8], ei_alone=[0.6, 0.8, 0.8], tpe=[None, None, 0.7]),
    ]
    lines = []
    found = report("ft", plans, lines)
    assert found["ft.tasks"] == 2
    assert found["ft.regret.ei.1"] == pytest.approx((0.005 + 0.2) / 2)
    assert found["ft.regret.tpe.1"] == pytest.approx((0.705 + 0.6) / 2)  # the untouched model has s = 0.2
    assert found["ft.median_trials.ei"] == 1.5 and found["ft.median_trials.ei-alone"] == 2.5
    assert found["ft.median_trials.tpe"] == 3.5  # one of two never arrives: budget + 1
    assert found["ft.win_rate.ei-alone"] == 0.75 and found["ft.win_rate.tpe"] == 1
    assert found["ft.saved.tpe.lo"] <= found["ft.saved.tpe"] <= found["ft.saved.tpe.hi"]
    assert any("ahead of `tpe` on 100%" in line for line in lines)
    assert found["ft.trap.stuck_tasks"] == 0 and found["ft.trap.max_ratio"] == 0  # never over the grace of two trials
    assert not any("of MRI" in line for line in lines)  # all of them are


def test_a_search_that_its_prior_holds_back_is_a_trap(tmp_path):
    held = kept(tmp_path, TASKS[0], ei=[0.1, 0.1, 0.1], ei_alone=[0.9, 0.9, 0.9], tpe=[0.9, 0.9, 0.9])
    led = kept(tmp_path, TASKS[1], ei=[0.9, 0.9, 0.9], ei_alone=[0.1, 0.1, 0.9], tpe=[0.1, 0.1, 0.9])
    found = report("ft", [held, led], [])
    assert (found["ft.trap.stuck_tasks"], found["ft.trap.max_ratio"]) == (1, 2)  # 4 trials or more, less 2, over 1


def test_tasks_of_mri_are_told_apart(tmp_path):
    of_images = next(case for case in CASES if case.key.startswith("vision"))
    runs = {"ei_alone": [0.8] * 3, "tpe": [0.8] * 3}
    plans = [kept(tmp_path, case, ei=[0.9] * 3, **runs) for case in TASKS]
    plans.append(kept(tmp_path, of_images, ei=[0.2] * 3, **runs))
    lines = []
    found = report("ft", plans, lines)
    assert found["ft.mri.regret.ei.3"] == 0 and found["ft.regret.ei.3"] == pytest.approx(0.2)
    assert "The 2 of MRI among them:" in lines


def test_what_is_kept_is_not_missing_and_no_task_is_searched_where_there_is_nothing_to_forget(tmp_path):
    plan = kept(tmp_path, TASKS[0], ei=[0.9, 0.9, 0.9])
    assert plan.missing() == [("ft", "ei-alone", 0), ("ft", "tpe", 0)]
    both = replace(plan, methods=["ft", "ng"], trials={"ft": 3, "ng": 3})
    assert both.missing("ft") == plan.missing() and len(both.missing("ng")) == 3
    (plan.folder / TASKS[0].key / "invalid.json").write_text("{}")
    assert plan.missing() == []
    assert report("ft", [plan], [])["ft.tasks"] == 0


def test_tasks_are_of_families_that_the_collection_has():
    chosen = Namespace(tasks=None, quick=False)
    families = {case.family for case in TASKS}
    found = choose_cases(chosen, families)
    assert {case.family for case in found} <= families and len(found) == len({case.family for case in found})
    with pytest.raises(SystemExit, match="choose among"):
        choose_cases(chosen, {"another/family"})


def test_a_search_without_prior_does_not_look_into_the_bundled_mapper(task, analysis, tmp_path, monkeypatch):
    priors = []

    def look(study, task, unlearner, **options):
        study_sampler(study, read_record(study), unlearner)
        priors.append(read_prior(study))

    monkeypatch.setattr(knob_search, "run_study", look)
    made = SimpleNamespace(task=task, analysed=(analysis,), evaluator=None)
    plan = Plan(TASKS[0], ["spectral"], {"spectral": 1}, 1, tmp_path, SpectrumMapper.load())
    for sampler in ("ei", "ei-alone"):
        knob_search.search(made, plan, "spectral", sampler, 0)
    told, alone = priors
    assert told is not None and len(told.prior.members) > 0
    assert alone is None
