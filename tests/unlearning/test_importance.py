"""SSD without targets, without a search, and as a search in itself."""

import dataclasses
import math

import pytest
import small_task
import torch
from torch import nn

from ssdtune.errors import ConfigError
from ssdtune.fisher.importance import importance
from ssdtune.progress import silent
from ssdtune.report.html import study_page
from ssdtune.report.page import render
from ssdtune.report.view import read_view
from ssdtune.study.create import create_study
from ssdtune.study.tune import tune
from ssdtune.task import model_hash
from ssdtune.unlearning.method import UNTOUCHED, run
from ssdtune.unlearning.methods import choose_method
from ssdtune.unlearning.ssd_adaptive import adaptive_share

SETTINGS = {
    "lfssd": {"alpha": 0.3, "lambda": 0.2},
    "xlf": {"alpha": 0.3, "lambda": 0.2},
    "potion": {"rho_cut": 0.8},
}
OPTIONS = {"potion": {"steps": 60}}


def prepared(task, name, analysis=None, **options):
    chosen = choose_method({"name": name, **options})
    return chosen.method.prepare(task, chosen.options, analyse=lambda: analysis, track=silent)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_method_on_every_task(any_task, name):
    options = OPTIONS.get(name, {})
    before, unlearner = model_hash(any_task.model), prepared(any_task, name, **options)
    first, again = (run(unlearner, SETTINGS[name], seed) for seed in (1, 2))
    selected = unlearner.notes(SETTINGS[name])["rho"]  # potion's lambda = 1 may leave nothing to dampen
    assert same(first.params, again.params) and same(first.params, any_task.params) == (selected == 0)
    assert selected > 0 or name == "potion"
    assert same(first.params, run(prepared(any_task, name, **options), SETTINGS[name], 1).params)
    assert all(value.isfinite().all() for value in first.params.values())
    assert (first.cost == again.cost > 0) if name == "potion" else first.cost == 0
    assert model_hash(any_task.model) == before
    assert unlearner.analysis is None and unlearner.view() is None
    if name != "potion":
        share = unlearner._source.ratios.infinite / unlearner._source.ratios.size  # o = 0 < f: always selected
        assert unlearner.effect({"alpha": 1e9, "lambda": 1e9}) == ((share, 1e9) if share else UNTOUCHED)


@pytest.mark.parametrize("size", ["squared norm", "norm"])
def test_importances_are_mean_absolute_gradients_and_see_no_target(any_task, size):
    found = importance(any_task, size)
    twin = any_task.twin()
    expected = torch.zeros(found.layout.parameters)
    for inputs, *_ in (any_task.forget[index] for index in range(len(any_task.forget))):
        output = twin(*(value[None] for value in (inputs if isinstance(inputs, tuple) else (inputs,))))
        scale = output.detach().abs().max() if output.dim() > 2 else 1.0
        squared = (output / scale).square().mean()
        gradient = torch.autograd.grad(squared if size == "squared norm" else squared.sqrt(), list(twin.parameters()))
        expected += torch.cat([part.reshape(-1) for part in gradient]).abs() / len(any_task.forget)
    assert torch.allclose(torch.from_numpy(found.ratios.forget), expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    blind = dataclasses.replace(any_task, loss=lambda output, target: 1 / 0)
    assert (importance(blind, size).ratios.forget == found.ratios.forget).all()


def test_an_output_without_a_norm_is_refused_in_one_line():
    class Two(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return {"scores": self.model(x)}

    task = small_task.make_task()
    strange = dataclasses.replace(task, model=Two(task.model))
    for name in SETTINGS:
        with pytest.raises(ConfigError, match="lacks an output that is one tensor"):
            create_study(strange, method={"name": name})


def test_adaptive_ssd_is_ssd_at_the_share_that_phi_decides(problem):
    task, analysis = problem
    assd, ssd = prepared(task, "assd", analysis), prepared(task, "ssd", analysis)
    rho = math.log(1 + 100 * task.phi) / 100
    assert adaptive_share(task.phi) == pytest.approx(rho) and adaptive_share(1e60) == 1
    setting = {"alpha": analysis.alpha_at(rho), "lambda": 1.0}
    assert same(run(assd, {}, 0).params, run(ssd, setting, 0).params)
    assert assd.effect({}) == ssd.effect(setting) and assd.notes({}) == ssd.notes(setting)
    if setting["alpha"] > 1:
        assert assd.notes({})["rho"] == pytest.approx(rho, abs=1.5 / analysis.layout.parameters)


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_a_study_of_nothing_to_search_has_one_trial_and_a_page():
    task = small_task.make_task(oracle=True)
    study = tune(task, 7, method="assd")
    assert len(study.trials) == 1 and study.trials[0].params == {}
    html = render(study_page(read_view(study)))
    assert "nothing" in html and "Settings tried" not in html


def test_potion_stops_at_the_first_step_that_forgets_enough_and_bills_every_look():
    task = small_task.make_task(oracle=True)
    potion = prepared(task, "potion")
    strict, loose = (potion.stop(cut) for cut in (0.3, 0.9))
    assert loose <= strict and potion.looks[0] <= 1 + 1e-6
    for cut, step in ((0.3, strict), (0.9, loose)):
        assert all(look > cut for look in potion.looks[:step])
        alone = prepared(task, "potion")
        stage = run(alone, {"rho_cut": cut}, 0)
        assert stage.cost == len(task.forget) * (step + 1) == run(potion, {"rho_cut": cut}, 0).cost
        assert same(stage.params, potion._ssd.dampened(potion.dampening(step)))
        assert alone.notes({"rho_cut": cut})["looks"] == step + 1
    assert potion.looks[strict] <= 0.3 or potion.dampening(strict)["alpha"] <= 1
    assert prepared(task, "potion", steps=2).stop(0.0) <= 1
