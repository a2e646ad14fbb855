"""What every method has to do, and the limits in which one is another."""

import dataclasses
import math

import pytest
import small_task
import torch
from other_tasks import vision_task
from torch import nn
from torch.nn.functional import cross_entropy

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.fisher.analysis import analyse
from ssdtune.objective.evaluation import evaluate
from ssdtune.progress import silent
from ssdtune.study.create import create_study
from ssdtune.study.record import read_record
from ssdtune.study.run import setting_seed
from ssdtune.study.tune import prepare, tune, unlearned_params
from ssdtune.task import Task, model_hash
from ssdtune.unlearning.method import UNTOUCHED, run
from ssdtune.unlearning.methods import METHODS, choose_method

SETTINGS = {
    "ssd-repair": {"alpha": 2.0, "lambda": 0.5, "lr": 0.3, "beta": 10.0},
    "ft": {"lr": 0.1, "steps": 4},
    "ng": {"lr": 0.1, "steps": 4, "mu": 0.3},
}


def prepared(problem, name, **options):
    task, analysis = problem
    chosen = choose_method({"name": name, **options})
    return chosen.method.prepare(task, chosen.options, analyse=lambda: analysis, track=silent)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def distance(left, right):
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_and_a_seed_decide_the_result_and_the_model_stays(problem, name):
    task, before = problem[0], model_hash(problem[0].model)
    unlearner = prepared(problem, name)
    first, other = (run(unlearner, SETTINGS[name], seed) for seed in (1, 2))
    again = run(prepared(problem, name), SETTINGS[name], 2)  # which has run nothing before
    assert same(other.params, again.params)
    assert not same(first.params, other.params)
    assert other.cost == again.cost > 0
    assert model_hash(task.model) == before
    assert evaluate(task, first.params).finite


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
@pytest.mark.parametrize("name", ["ssd", "ssd-repair", "assd"])
def test_ssd_is_billed_for_the_samples_that_were_analysed(name):
    task = small_task.make_task()
    whole, part = (prepared((task, analyse(task, samples=samples)), name).preparation for samples in (None, 5))
    assert (whole, part) == (3 * (40 + 12), 3 * (5 + 5))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "compose"])  # needs trials of others
@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_every_method_runs_in_a_study_and_is_repeated(name):
    task, chosen = small_task.make_task(oracle=True), choose_method({"name": name})
    if chosen.method.needs(task, chosen.options):  # a convolution
        task = dataclasses.replace(vision_task(), quality=small_task.confidence, floor=0.0)
    study = tune(task, 3, method=name, sampler="random", retain_weight=0.0, min_retained=0.0)
    assert len(study.trials) == (3 if chosen.method.knobs(chosen.options) else 1)
    assert same(unlearned_params(study, task), unlearned_params(study, task))


@pytest.mark.parametrize("name", ["ft", "ng"])
def test_no_steps_leave_the_model_untouched(problem, name):
    unlearner = prepared(problem, name)
    setting = SETTINGS[name] | {"steps": 0}
    stage = run(unlearner, setting, 0)
    assert same(stage.params, problem[0].params) and stage.cost == 0
    assert unlearner.effect(setting) == UNTOUCHED != unlearner.effect(SETTINGS[name])


def test_repair_of_no_steps_is_ssd(problem):
    ssd, repair = prepared(problem, "ssd"), prepared(problem, "ssd-repair", steps=0)
    setting = SETTINGS["ssd-repair"]
    assert same(run(ssd, setting, 0).params, run(repair, setting, 0).params)
    assert repair.effect(setting) == ssd.effect(setting)


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_a_study_of_repairs_of_no_steps_is_one_of_ssd():
    task, ranges = small_task.make_task(oracle=True), {"alpha": [0.1, 100.0], "lambda": [0.03, 30.0]}
    sections = {"name": "ssd", **ranges}, {"name": "ssd-repair", "steps": 0, "held_back": 1000, **ranges}
    studies = [tune(task, 3, method=section, sampler="random", min_retained=0.0) for section in sections]
    ssd, repair = ([(trial.params, trial.values) for trial in study.trials] for study in studies)
    assert ssd == repair
    assert same(*(unlearned_params(study, task) for study in studies))


def test_no_stage_on_the_way_remembers_more_than_the_result(problem):
    """A repair of a weak dampening forgets, as fine-tuning does: no trial may be given up for what it is before."""
    task, setting = problem[0], {"alpha": 90.0, "lambda": 25.0, "lr": 3.0, "beta": 1e-3}
    for name, options in (("ssd-repair", {}), ("spectral", {"steps": 1, "repair": 12})):
        start = setting if name == "ssd-repair" else {"mu": 5.0, "eta": 0.01, "w_r": 1.0, "lr": 3.0}
        qualities = [
            evaluate(task, stage.params).quality("forget") for stage in prepared(problem, name, **options)(start, 0)
        ]
        assert max(qualities) <= qualities[-1] + 1e-6


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_settings_that_dampen_alike_but_are_repaired_apart_are_not_taken_for_one():
    task = small_task.make_task(oracle=True)
    study = create_study(task, method={"name": "ssd-repair"})
    record = read_record(study)
    unlearner = prepare(record, task)
    alike = [{"alpha": alpha, "lambda": 5.0, "lr": 1.0, "beta": 0.1} for alpha in (1.0, 2.0)]
    first, second = (run(unlearner, setting, setting_seed(record, setting)).params for setting in alike)
    assert not same(first, second)
    assert unlearner.effect(alike[0]) != unlearner.effect(alike[1])


def test_a_repair_is_billed(problem):
    last = run(prepared(problem, "ssd-repair"), SETTINGS["ssd-repair"], 0)
    assert last.cost == 12 * 3 * 4


def test_a_repair_at_no_rate_is_ssd_and_one_that_is_held_fast_returns_to_its_anchor(problem):
    task, analysis = problem
    setting = SETTINGS["ssd-repair"]
    dampened = run(prepared(problem, "ssd"), setting, 0).params
    assert distance(run(prepared(problem, "ssd-repair"), setting | {"lr": 1e-9}, 0).params, dampened) < 1e-6
    felt = analysis.unflatten(torch.from_numpy(analysis.retain.diagonal > 0))
    for anchor, home in (("theta0", task.params), ("theta1", dampened)):
        held = prepared(problem, "ssd-repair", anchor=anchor, decay=False)
        found = run(held, setting | {"beta": 1e30}, 0).params
        assert all(torch.allclose(found[name][felt[name]], home[name][felt[name]]) for name in home)
    assert distance(dampened, task.params) > 1e-3


def test_the_repairs_rate_and_penalty_are_measured_in_the_retain_fisher(problem):
    analysis, repair = problem[1], prepared(problem, "ssd-repair")
    foretold = repair.unit**2 * analysis.layout.parameters * analysis.retain.spectrum.eigenvalues[0] / 2
    assert foretold == pytest.approx(analysis.retain.losses.mean())
    o = torch.from_numpy(analysis.retain.diagonal)
    top = o.sort().values[math.ceil(0.999 * len(o)) - 1]
    assert torch.allclose(repair._weights, o.clamp(max=top) / o.mean())


def test_without_a_dampening_and_a_penalty_a_repair_is_fine_tuning(problem):
    analysis, repair = problem[1], prepared(problem, "ssd-repair", steps=5)
    nothing = {"alpha": 1e30, "lambda": 1e30, "lr": 0.3, "beta": 1e-30}
    fine_tuned = run(
        prepared(problem, "ft"), {"lr": 0.3 * repair.unit * math.sqrt(analysis.layout.parameters), "steps": 5}, 0
    )
    assert distance(run(repair, nothing, 0).params, fine_tuned.params) < 1e-6


def test_ng_without_a_forget_weight_is_fine_tuning(problem):
    fine_tuned = run(prepared(problem, "ft"), SETTINGS["ft"], 0)
    found = run(prepared(problem, "ng"), SETTINGS["ng"] | {"mu": 0.0}, 0)
    assert same(found.params, fine_tuned.params) and found.cost == fine_tuned.cost


def test_a_bounded_ascent_stops_at_the_oracles_loss():
    task = small_task.make_task(oracle=True)
    setting = {"lr": 0.1, "steps": 200, "mu": 3.0}
    inputs, targets = (torch.stack(part) for part in zip(*task.forget, strict=True))
    losses = []
    for bounded in (False, True):
        unlearner = prepared((task, None), "ng", bounded=bounded, batch_size=40, decay=False)
        output = task.predict(run(unlearner, setting, 0).params, (inputs,))
        losses.append(float(cross_entropy(output, targets)))
    assert losses[1] < 2 * unlearner.cap < 10 * unlearner.cap < losses[0]  # Adam's momentum goes a little beyond
    with pytest.raises(ConfigError, match="no oracle"):
        prepared((small_task.make_task(), None), "ng", bounded=True)


def test_a_repair_can_end_when_held_back_slices_stop_gaining(problem):
    ending = prepared(problem, "ssd-repair", steps=40, held_back=2, decay=False)
    setting = SETTINGS["ssd-repair"]
    harmful = run(ending, setting | {"lr": 100.0}, 0)
    assert harmful.cost < 40 * 3 * 4
    assert same(harmful.params, run(ending, setting | {"lr": 100.0}, 0).params)


def test_one_line_says_what_cannot_be_trained(problem):
    with pytest.raises(DataError, match="to be held back"):
        prepared(problem, "ssd-repair", held_back=1000)
    task = small_task.make_task()
    constant = nn.Sequential(nn.Linear(2, 3), nn.Hardtanh(-1e-9, 1e-9), nn.Linear(3, 3))
    with torch.no_grad():
        constant[2].weight.zero_()
    dead = Task(constant, lambda output, target: output.mean() * 0, task.retain, task.forget, task.quality)
    with pytest.raises(ModelError, match="gradient of the retain loss is zero"):
        prepared((dead, None), "ft")
    infinite = Task(constant, lambda output, target: output.mean() / 0, task.retain, task.forget, task.quality)
    with pytest.raises(ModelError, match="not finite"):
        prepared((infinite, None), "ft")
