"""One table of all methods whose settings are a training each: what each of them has to do, on three kinds of tasks."""

import dataclasses
import math

import pytest
import small_task
import torch
from other_tasks import plain_task, vision_task
from torch import nn
from torch.nn.functional import mse_loss

from ssdtune.errors import ConfigError
from ssdtune.objective.evaluation import evaluate
from ssdtune.objective.evaluator import Evaluator
from ssdtune.objective.measure import Objective
from ssdtune.objective.stopping import Incumbent
from ssdtune.progress import silent
from ssdtune.study.create import create_study, measure_record
from ssdtune.task import Task, model_hash
from ssdtune.unlearning.aims import divergence, noise_of, with_noise, wrong_labels
from ssdtune.unlearning.bad_teacher import answers, drawn_anew
from ssdtune.unlearning.encoder import encoder
from ssdtune.unlearning.inputs import acquired, rms
from ssdtune.unlearning.method import UNTOUCHED, run
from ssdtune.unlearning.methods import choose_method
from ssdtune.unlearning.sets import generator_of

BOTH, ONE = 6 * 4, 3 * 4  # slice passes of a step on both sets, on one
CASES = {  # setting, passes of three steps with batches of four slices
    "ft": ({}, 3 * ONE),
    "full-ft": ({}, 3 * ONE),
    "ng": ({"mu": 0.3}, 3 * BOTH),
    "ga-l1": ({"gamma": 1e-3}, 3 * ONE),
    "ga-l1-ft": ({"gamma": 1e-3, "mu": 0.3}, 3 * BOTH),
    "nl": ({"sigma": 0.3}, 3 * ONE),
    "nl-ft": ({"sigma": 0.3, "w_f": 0.5}, 3 * BOTH),
    "bad-teacher": ({"w_f": 0.5}, 3 * BOTH),
    "psg": ({"eps": 0.3, "beta": 0.5}, 3 * BOTH + 4 * 4),
    "salun": ({"sigma": 0.3, "q": 0.5}, 3 * BOTH),
    "boundary-shrink": ({"eps": 0.3}, 3 * ONE + 4 * 4),
    "task-arithmetic": ({"s": 0.5}, 3 * ONE),
    "scrub": ({"max_share": 0.4, "w_d": 0.5}, 3 * ONE + ONE),
    "i2i": ({"a_f": 0.5}, 3 * BOTH),
    "ct": ({}, 3 * ONE),
    "msg": ({"init_rate": 0.3}, 3 * ONE),
}
LACKING = {  # by task and method: what is said
    ("plain", "ct"): "a convolution",
    ("plain", "msg"): "a convolution",
    ("plain", "boundary-shrink"): "classes",
    ("varnet", "boundary-shrink"): "classes",
}
OPTIONS = {"psg": {"gamma": 3.0}}  # so that its noise turns a sign, also of few numbers
FORGET_ALONE = ("boundary-shrink", "task-arithmetic")
WEIGHTLESS = {"bad-teacher": {"w_f": 0.0}, "i2i": {"a_f": 0.0}, "task-arithmetic": {"s": 0.0}}
SAME = {  # a setting of one method that is another's
    "ng": ({"mu": 0.0}, "ft", {}),
    "ga-l1-ft": ({"gamma": 0.0, "mu": 0.3}, "ng", {"mu": 0.3}),
    "nl-ft": ({"sigma": 0.3, "w_f": 0.0}, "ft", {}),
    "salun": ({"sigma": 0.3, "q": 1.0}, "nl-ft", {"sigma": 0.3, "w_f": 1.0}),
    "task-arithmetic": ({"s": 0.0}, "ft", {"steps": 0}),
    "scrub": ({"max_share": 0.0, "w_d": 0.0}, "ft", {}),
    "full-ft": ({}, "ft", {}),
}


def setting_of(name, **changes):
    return {"lr": 0.05, "steps": 3, **CASES[name][0], **changes}


def prepared(task, name, **options):
    """The method on one shape of slices, four a batch."""
    chosen = choose_method({"name": name, **options})
    return chosen.method.prepare(task, chosen.options, analyse=lambda: None, track=silent)


def kind_of(task):
    return task.name if task.name != "task" else "varnet"


def one_shape(task, slices=4):
    """The task with its first slices alone, so that every batch has four."""
    retain, forget = ([samples[i % len(samples)] for i in range(slices)] for samples in (task.retain, task.forget))
    return dataclasses.replace(task, retain=retain, forget=forget)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", CASES)
def test_every_method_on_every_task(any_task, name):
    task = one_shape(any_task)
    method = choose_method({"name": name}).method
    if (kind_of(task), name) in LACKING:
        with pytest.raises(ConfigError, match=f"method '{name}' lacks {LACKING[kind_of(task), name]}"):
            create_study(task, method={"name": name})
        return
    assert method.needs(task, method.Options()) is None
    before, options = model_hash(task.model), OPTIONS.get(name, {})
    unlearner = prepared(task, name, **options)
    first, other = (run(unlearner, setting_of(name), seed) for seed in (1, 2))
    again = run(prepared(task, name, **options), setting_of(name), 2)  # which has run nothing before
    assert same(other.params, again.params) and first.cost == again.cost == CASES[name][1]
    assert all(value.isfinite().all() for value in first.params.values())
    assert not same(first.params, task.params)
    if name not in ("ft", "full-ft", "ng", "ga-l1", "ga-l1-ft", "bad-teacher", "scrub", "i2i", "ct", *FORGET_ALONE):
        assert not same(first.params, other.params)  # of those above, one batch is the whole set
    for nothing in ({"steps": 0}, WEIGHTLESS.get(name, {"steps": 0})):
        stage = run(unlearner, setting_of(name, **nothing), 1)
        assert same(stage.params, task.params) and stage.cost == 0
    assert unlearner.effect(setting_of(name, steps=0)) == UNTOUCHED != unlearner.effect(setting_of(name))
    assert unlearner.notes(setting_of(name))["rate"] > 0
    for lr in (100.0, 1e35, 1e300) if kind_of(task) == "plain" else (1e35,):
        wild = run(unlearner, setting_of(name, lr=lr), 1).params.values()
        assert all(v.isfinite().all() for v in wild) or all(v.isnan().all() for v in wild if v.is_floating_point())
    assert model_hash(task.model) == before


@pytest.mark.parametrize("name", SAME)
def test_methods_whose_limit_is_another(any_task, name):
    special, other, setting = SAME[name]
    found = run(prepared(any_task, name), {"lr": 0.05, "steps": 3, **special}, 1)
    expected = run(prepared(any_task, other), {"lr": 0.05, "steps": 3, **setting}, 1)
    assert same(found.params, expected.params) and found.cost == expected.cost


X = {"retain": torch.tensor([1.0, 2.0]), "forget": torch.tensor([3.0, -1.0])}
Y = {"retain": 1.0, "forget": -2.0}
START = torch.tensor([[0.5, -0.25]])


def line():
    """y = theta · x, one retain and one forget sample, loss the square."""
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(START)
    retain, forget = ([(X[name], torch.tensor([Y[name]]))] for name in X)
    return Task(model, mse_loss, retain, forget, lambda output, target: output[:, 0])


def slope(name, target=None):
    x, y = X[name], Y[name] if target is None else target
    return 2 * (START @ x - y) * x


def noisy(sigma):
    n = torch.randn(1, 1, generator=generator_of(["1", "0", "noise"])).abs()
    return float(Y["forget"] + sigma * abs(Y["forget"]) * n)


def perturbed(eps):
    """theta · (x + delta) of the worst delta of one step."""
    x = X["forget"]
    delta = eps * x.square().mean().sqrt() * (2 * (START @ x - Y["forget"]) * START[0]).sign()
    return float(START @ (x + delta))


BY_HAND = {
    "ft": lambda s, task: slope("retain"),
    "full-ft": lambda s, task: slope("retain"),
    "ng": lambda s, task: slope("retain") - s["mu"] * slope("forget"),
    "ga-l1": lambda s, task: -slope("forget"),
    "ga-l1-ft": lambda s, task: slope("retain") - s["mu"] * slope("forget"),
    "nl": lambda s, task: slope("forget", noisy(s["sigma"])),
    "nl-ft": lambda s, task: slope("retain") + s["w_f"] * slope("forget", noisy(s["sigma"])),
    "bad-teacher": lambda s, task: s["w_f"] * slope("forget", float(drawn_anew(task, 0)["weight"] @ X["forget"])),
    "psg": lambda s, task: s["beta"] * slope("retain") + slope("forget", perturbed(s["eps"])),
    "scrub": lambda s, task: slope("retain"),
    "salun": lambda s, task: slope("retain") + slope("forget", noisy(s["sigma"])),
}
MASKS = {"salun": slope("forget").abs() == slope("forget").abs().max()}  # q = 0.5 of two parameters


@pytest.mark.parametrize("name", BY_HAND)
def test_one_step_of_a_linear_model_is_the_one_worked_out_by_hand(name):
    task, options = line(), {"clip": 1e9, "decay": False}
    unlearner = prepared(task, name, **options, **({"gamma": 0.0} if name == "psg" else {}))
    setting = setting_of(name, steps=1, lr=0.05 * math.sqrt(2))
    expected = BY_HAND[name](setting, task)
    terms = [term for term in unlearner.plan(setting, 1).terms if term.when is None or term.when(0)]
    batches = {term.set: next(unlearner.trainer.stream(term.set, 1)) for term in terms}
    gradient = unlearner.trainer.gradient(task.twin(), [(term, batches[term.set]) for term in terms])
    assert torch.allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    moved = START - 0.05 * expected.sign()  # Adam's first step
    moved = moved.sign() * (moved.abs() - 0.05 * setting.get("gamma", 0.0)).clamp(min=0)
    moved = torch.where(MASKS.get(name, torch.tensor(True)), moved, START)
    assert torch.allclose(run(unlearner, setting, 1).params["weight"], moved, atol=1e-5)


def test_a_max_step_leads_away_and_the_last_step_is_a_min_step(any_task):
    unlearner = prepared(any_task, "scrub")
    plan = unlearner.plan(setting_of("scrub", steps=4, max_share=1.0), 1)
    kinds = [[term.set for term in plan.terms if term.when(step)] for step in range(plan.steps)]
    assert kinds == [["retain"], ["forget"]] * 3 + [["retain"]]


def test_the_published_norm_takes_all_weights_and_a_tuned_one_does_not(any_task):
    unlearner, task = prepared(any_task, "ga-l1"), any_task
    (published,) = choose_method({"name": "ga-l1"}).method.published(choose_method({"name": "ga-l1"}).options)
    before = float(sum(value.abs().sum() for value in task.params.values()))
    left = []
    for gamma in (published["gamma"], 1e-5):
        params = run(unlearner, {"lr": 5.0, "steps": 20, "gamma": gamma}, 0).params
        left.append(sum(float(params[name].abs().sum()) for name in task.params) / before)
        assert unlearner.notes({**published, "gamma": gamma})["penalty"] == pytest.approx(gamma * before, rel=1e-4)
    assert left[0] < 0.3 * left[1]


def test_the_published_collapse_is_the_norms_and_goes_with_a_tuned_one():
    """Xue et al.'s GA-l1-FT on a classifier: at their rate and weights gamma decides whether a model is left."""
    task = small_task.make_task(oracle=True)
    rule, unlearner = measure_record(task).rule, prepared(task, "ga-l1-ft")
    chosen = choose_method({"name": "ga-l1-ft"})
    (published,) = chosen.method.published(chosen.options)
    scores = []
    for setting in (published, {**published, "gamma": 1e-5}):
        found = evaluate(task, run(unlearner, setting, 0).params)
        scores.append(rule(found.quality("retain"), found.quality("forget")))
    assert scores[0].retained < 0.6 and scores[1].retained > 0.95 and scores[1].remembered < 0.1


def test_noise_is_half_normal_and_fresh_unless_told_otherwise_and_relative_to_the_largest_value(any_task):
    if kind_of(any_task) == "vision":
        pytest.skip("labels have no sign")
    seen = []

    def image(target):
        return target["image"] if isinstance(target, dict) else target

    def loss(output, target):
        seen.append(image(target))
        return output.sum() * 0 + 1

    trainer = prepared(any_task, "nl").trainer
    batch = next(trainer.in_order("forget"))
    clean = image(batch.target)
    largest = batch.target["max"] if isinstance(batch.target, dict) else clean.abs().amax(1)
    for kind, fresh in (("half-normal", True), ("half-normal", False), ("normal", True), ("normal", False)):
        aim = with_noise(loss, trainer.output, noise_of(any_task), 0.5, ["1"], kind, fresh)
        again = with_noise(loss, trainer.output, noise_of(any_task), 0.5, ["1"], kind, fresh)
        seen.clear()
        for one in (aim, aim, again):
            one(any_task.model, batch)
        first, second, third = ((each - clean) / 0.5 / largest.view(-1, *[1] * (clean.dim() - 1)) for each in seen)
        assert torch.equal(first, third) and torch.equal(first, second) != fresh
        assert (first >= -1e-6).all() == (kind == "half-normal")
        if clean[0].numel() > 100:
            assert first.square().mean() == pytest.approx(1, rel=0.1)


def test_wrong_labels_are_other_classes_and_as_many_as_asked_for():
    target, generator = torch.arange(3000) % 3, torch.Generator().manual_seed(0)
    draw = lambda like: torch.randn(like.shape, generator=generator)  # noqa: E731
    noise = wrong_labels(3)
    assert torch.equal(noise(target, 0.0, draw), target)
    some, all_ = noise(target, 0.25, draw), noise(target, 1.0, draw)
    assert (some != target).float().mean() == pytest.approx(0.25, abs=0.03)
    assert not (all_ == target).any() and all_.min() == 0 and all_.max() == 2
    assert ((all_ - target) % 3 == 1).float().mean() == pytest.approx(0.5, abs=0.03)


def test_divergence_is_that_of_torch():
    output, reference = torch.randn(2, 5, 4)
    expected = nn.functional.kl_div(output.log_softmax(1), reference.softmax(1), reduction="batchmean")
    assert divergence(output, reference, None) == pytest.approx(float(expected), rel=1e-5)
    assert divergence(reference, reference, None) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("ct", "msg")])
def test_a_trial_that_is_clearly_not_the_best_ends_after_its_first_look(name):
    task = small_task.make_task(
        retain=small_task.points(0, 80, 1) + small_task.points(1, 80, 2), forget=small_task.points(2, 60, 3)
    )
    record = measure_record(task, method={"name": name})
    objective = Objective(Evaluator(task), record.rule, record.baseline, untouched=record.untouched)
    best = Incumbent(record.rule(record.rule.q_retain, record.rule.floor))
    outcome = objective.measure(prepared(task, name), setting_of(name, lr=1e-6), best)
    assert outcome.stopped == "worse"
    assert outcome.slices < outcome.possible / 2 and outcome.cost > outcome.slices


NEEDS = {
    "distance": (("bad-teacher", "scrub", "psg"), "a distance of two outputs"),
    "noise": (("nl", "nl-ft"), "a way to add noise to its targets"),
    "encoder": (("i2i",), "an encoder"),
    "type": (tuple(CASES), "parameters of one floating-point type"),
    "fraction": (("ft", "ng", "nl-ft"), "a retain sample in the fraction 0.1 of the 6 there are"),
}


@pytest.mark.parametrize("what", NEEDS)
def test_one_line_says_what_a_task_lacks(what):
    task, (names, words) = plain_task(), NEEDS[what]
    own = {"loss": lambda output, target: (output - target["y"]).square().mean()}
    samples = [(x, {"y": y}) for x, y in task.retain]
    strange = dataclasses.replace(task, **own, retain=samples, forget=samples)
    if what == "encoder":
        strange = dataclasses.replace(task, model=nn.Linear(3, 2))
    if what == "type":
        strange = dataclasses.replace(task, model=nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(3, 2).double()))
    if what == "fraction":
        strange = task
    for name in names:
        section = {"name": name, **({"retain_fraction": 0.1} if what == "fraction" else {})}
        with pytest.raises(ConfigError, match=words) as caught:
            create_study(strange, method=section)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("teacher", ["auto", "zero-filled", "random", "blind-spot"])
def test_bad_teachers_answer_once_and_are_what_they_are_called(any_task, teacher):
    if teacher == "zero-filled" and any_task.without_model is None:
        with pytest.raises(ConfigError, match="lacks an image without a model"):
            create_study(any_task, method={"name": "bad-teacher", "teacher": teacher})
        return
    unlearner = prepared(any_task, "bad-teacher", teacher=teacher, blind_steps=3)
    kept, passes = answers(
        unlearner.trainer, choose_method({"name": "bad-teacher", "teacher": teacher, "blind_steps": 3}).options
    )
    assert unlearner.preparation == passes + unlearner.trainer.slices("retain")
    for batch, raw in zip(*(unlearner.trainer.in_order("forget", raw=raw) for raw in (False, True)), strict=True):
        untouched = any_task.model(*raw.inputs)
        assert kept(batch).shape == untouched.shape and not torch.allclose(kept(batch), untouched)
        if any_task.without_model is not None and teacher in ("auto", "zero-filled"):
            assert torch.equal(kept(batch), any_task.without_model(raw.inputs))


def test_encoders_learn_noise_and_the_rest_stays(any_task):
    unlearner = prepared(any_task, "i2i", batch_size=8, decay=False)
    params = run(unlearner, setting_of("i2i", lr=0.05, steps=12), 1).params
    aim, trainer = unlearner.like(unlearner.noise), unlearner.trainer
    before, after = (
        sum(aim(model, batch).item() for batch in trainer.in_order("forget"))
        for model in (any_task.model, trainer.module(params))
    )
    assert after < before
    moved = {name for name in any_task.params if not torch.equal(params[name], any_task.params[name])}
    assert moved and moved <= encoder(any_task.model)[1] and moved != set(any_task.params)


def test_resets_are_what_they_are_called():
    task = vision_task()
    ct, msg = prepared(task, "ct"), prepared(task, "msg")
    swapped = ct.start({}, 0)
    assert torch.equal(swapped["stem.0.weight"], task.params["stem.0.weight"].mT)
    anew = msg.start({"init_rate": 0.3}, 0)
    share = {name: (anew[name] != task.params[name]).float().mean() for name in msg.weights}
    assert all(abs(value - 0.3) < 0.06 for value in share.values())
    name = msg.weights[-1]
    chosen = anew[name] != task.params[name]
    assert msg.size[name][chosen].max() <= msg.size[name][~chosen].min()
    assert same(msg.start({"init_rate": 0.0}, 0), task.params)
    mask = msg.plan({"init_rate": 0.3, "lr": 1.0, "steps": 3}, 0).mask
    assert set(mask.unique().tolist()) == {torch.tensor(0.1).item(), 1.0}


def test_perturbations_stay_within_their_bound_and_on_what_was_acquired(any_task):
    unlearner, seen = prepared(any_task, "psg", inner_steps=3), []
    respond = unlearner.trainer.respond
    unlearner.trainer.respond = lambda inputs: seen.append(inputs[0].detach()) or respond(inputs)
    batch = unlearner.raw[0]
    unlearner.pseudo_label(batch, 0.2, generator_of(["0"]))
    x, where = batch.inputs[0], acquired(batch.inputs)
    delta, bound = seen[-1] - x, 0.2 * rms(x, where)
    assert (delta.abs() <= bound * 1.0001).all() and delta.abs().max() > 0.5 * bound.min()
    assert not (delta * (1 - where)).any()
    losses = [float(any_task.loss(respond((each, *batch.inputs[1:])), batch.target)) for each in (x, seen[-1])]
    assert losses[1] > losses[0]
