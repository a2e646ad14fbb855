"""Compositions of finished trials: which are taken, what comes of them, and what they are billed."""

import json

import pytest
import small_task
import torch
from optuna.storages import InMemoryStorage
from other_tasks import plain_task

from ssdtune.errors import ConfigError, DataError
from ssdtune.progress import silent
from ssdtune.study.create import create_study
from ssdtune.study.parents import FORGETS, NEAR, parents_of
from ssdtune.study.record import PREPARATION, read_record, read_trial
from ssdtune.study.run import run_study, setting_seed
from ssdtune.study.trials import scored_trials
from ssdtune.study.tune import prepare, tune, unlearned_params
from ssdtune.studyfile import ScoreSection, SearchSection
from ssdtune.unlearning.blend import agreed, head, parts
from ssdtune.unlearning.method import UNTOUCHED, run
from ssdtune.unlearning.methods import choose_method
from ssdtune.unlearning.plan import Plan

T = {"interpolate": ["t"], "groups": ["t_first", "t_second", "t_third"], "merge": ["t"], "head": []}


@pytest.fixture(scope="module")
def problem():
    """(task, two finished studies of it)"""
    task, storage = small_task.make_task(oracle=True), InMemoryStorage()
    made = [
        tune(task, 6, method={"name": name, "lr": [1.0, 10.0]}, sampler="random", storage=storage, name=name, seed=seed)
        for seed, name in enumerate(("ng", "nl-ft"))
    ]
    return task, made


def composed(task, studies, kind):
    section = {"name": "compose", "kind": kind, "parents": parents_of(studies, task, kind)}
    chosen = choose_method(json.loads(json.dumps(section)))
    return chosen, chosen.method.prepare(task, chosen.options, analyse=lambda: None, track=silent)


def results(task, section):
    found = []
    for parent in section["parents"]:
        chosen = choose_method(parent["method"])
        unlearner = chosen.method.prepare(task, chosen.options, analyse=lambda: None, track=silent)
        found.append(run(unlearner, parent["setting"], parent["seed"]).params)
    return found


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def test_the_ends_of_the_front_are_taken_and_repeated_as_they_were(problem):
    task, studies = problem
    first, last = parents_of(studies, task)
    scored = [(study, trial) for study in studies for trial in scored_trials(study) if not trial.estimated]
    forget = [(study, trial) for study, trial in scored if trial.score.remembered < FORGETS]
    near = [pair for pair in forget if pair[1].score.violation <= NEAR] or forget
    study, best = min(near, key=lambda pair: (pair[1].score.remembered, -pair[1].score.retained))
    assert last["trial"] == f"trial {best.number} of {study.study_name}" != first["trial"]
    assert last["setting"] == best.setting and last["seed"] == setting_seed(read_record(study), best.setting)
    assert last["cost"] == read_trial(best.trial)["cost"]
    assert len(parents_of(studies, task, "merge")) >= 2


@pytest.mark.parametrize("kind", T)
def test_the_ends_of_a_composition_are_its_parents(problem, kind):
    task, studies = problem
    chosen, unlearner = composed(task, studies, kind)
    parents = results(task, chosen.section())
    assert [knob.name for knob in chosen.method.knobs(chosen.options)] == T[kind]
    zero, one = (dict.fromkeys(T[kind], value) for value in (0.0, 1.0))
    owed = sum(parent.cost for parent in chosen.options.parents)
    stage = run(unlearner, zero, 0)
    assert unlearner.preparation >= owed > 0 == stage.cost
    if kind == "merge":
        assert same(stage.params, task.params) and unlearner.effect(zero) == UNTOUCHED != unlearner.effect(one)
        found = agreed(task.params, parents)
        for name, value in found.items():
            changes = torch.stack([parent[name] - task.params[name] for parent in parents])
            together = (changes > 0).all(0) | (changes < 0).all(0)
            assert torch.equal(value != 0, together) and torch.allclose(value[together], changes.mean(0)[together])
        return
    if kind == "head":
        assert head(task) == {"2.weight", "2.bias"}
        source = {name: parents[name in head(task)] for name in task.params}
        assert all(torch.equal(stage.params[name], source[name][name]) for name in task.params)
        return
    assert same(stage.params, parents[0]) and same(run(unlearner, one, 0).params, parents[1])
    if kind == "groups":
        params = run(unlearner, {**zero, "t_third": 1.0}, 0).params
        assert all(
            torch.equal(params[name], parents[part == 2][name])
            for name, part in zip(task.params, parts(list(task.params)), strict=True)
        )


def test_a_transplanted_head_is_fine_tuned_where_that_is_asked_for(problem):
    task, studies = problem
    section = {"name": "compose", "kind": "head", "parents": parents_of(studies, task)}
    plain, tuned = (choose_method({**section, **more}) for more in ({}, {"repair": 3, "decay": False}))
    assert [knob.name for knob in tuned.method.knobs(tuned.options)] == ["lr"]
    start, unlearner = (
        chosen.method.prepare(task, chosen.options, analyse=lambda: None, track=silent) for chosen in (plain, tuned)
    )
    stage = run(unlearner, {"lr": 0.5}, 1)
    assert stage.cost == 3 * 3 * 4 and same(stage.params, run(unlearner, {"lr": 0.5}, 1).params)
    ft = choose_method({"name": "ft", "decay": False})
    trainer = ft.method.prepare(task, ft.options, analyse=lambda: None, track=silent).trainer
    transplanted = run(start, {}, 0).params
    assert same(stage.params, trainer.train(Plan(3, 0.5 * trainer.unit), 1, transplanted).params)
    assert not same(stage.params, transplanted)


def test_parts_of_a_varnet_are_its_sensitivity_net_and_its_early_and_late_cascades():
    names = ["sens_net.conv.weight", *(f"cascades.{number}.model.weight" for number in range(4))]
    assert parts(names) == [0, 1, 1, 2, 2]
    assert parts(["a.weight", "a.bias", "b.weight", "c.weight"]) == [0, 0, 1, 2]


def test_a_study_of_compositions_is_run_and_repeated_and_billed_once(problem):
    task, studies = problem
    section = {"name": "compose", "parents": parents_of(studies, task)}
    score = ScoreSection(min_retained=0.0)
    study = create_study(task, method=section, search=SearchSection(trials=3, sampler="random"), score=score)
    run_study(study, task, prepare(read_record(study), task), stop_early=False)
    assert all(read_trial(trial)["cost"] == read_trial(trial)["slices"] for trial in study.trials)
    assert study.user_attrs[PREPARATION] >= sum(parent["cost"] for parent in section["parents"]) > 0
    assert same(unlearned_params(study, task), unlearned_params(study, task))
    assert len(parents_of([*studies, study], task)) == 2  # of which no composition is one


def test_one_line_says_what_cannot_be_composed(problem):
    task, studies = problem
    with pytest.raises(ConfigError, match="lacks finished trials to compose"):
        create_study(task, method={"name": "compose"})
    with pytest.raises(ConfigError, match="0 finished trials that forget"):
        parents_of([], task)
    with pytest.raises(DataError, match="inputs changed"):
        parents_of(studies, small_task.make_task())
    parents = parents_of(studies, task)
    for wrong in (parents[:1], [*parents, parents[0]]):
        with pytest.raises(ConfigError, match="takes two parents") as caught:
            choose_method({"name": "compose", "parents": wrong})
        assert len(str(caught.value).splitlines()) == 1
    other = plain_task()
    lacking = choose_method({"name": "compose", "kind": "head", "parents": parents})
    assert lacking.method.needs(other, lacking.options) is None  # its last layer is linear
