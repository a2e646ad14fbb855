"""SalUn's mask, Boundary Shrink's labels, task arithmetic's step."""

import pytest
import small_task
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from ssdtune.errors import ConfigError
from ssdtune.progress import silent
from ssdtune.task import Task
from ssdtune.unlearning.boundary_shrink import to_class
from ssdtune.unlearning.method import run
from ssdtune.unlearning.methods import choose_method
from ssdtune.unlearning.sets import generator_of


def prepared(task, name, **options):
    chosen = choose_method({"name": name, **options})
    return chosen.method.prepare(task, chosen.options, analyse=lambda: None, track=silent)


@pytest.mark.parametrize(
    ("base", "extra"), [("nl-ft", {"sigma": 0.3}), ("ng", {"mu": 0.3}), ("bad-teacher", {"w_f": 0.5})]
)
def test_what_the_forget_loss_feels_least_stays_to_the_bit_and_all_of_it_is_the_base(any_task, base, extra):
    salun = prepared(any_task, "salun", base=base)
    own = {"lr": 0.5, "steps": 3, **extra}
    moved, untouched = (
        salun.trainer.flatten(params) for params in (run(salun, {**own, "q": 0.25}, 1).params, any_task.params)
    )
    size = salun.trainer.mean_gradient("forget").abs()
    mask = salun.mask(0.25)
    assert mask.sum() == round(0.25 * len(size)) and size[mask].min() >= size[~mask].max()
    assert torch.equal(moved[~mask], untouched[~mask]) and not torch.equal(moved[mask], untouched[mask])
    knobs = {"w_f": 1.0, **own} if base == "nl-ft" else own
    expected = run(prepared(any_task, base), knobs, 1).params
    found = run(salun, {**own, "q": 1.0}, 1).params
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_mask_by_ratio_moves_what_ssd_selects(problem):
    task, analysis = problem
    chosen = choose_method({"name": "salun", "mask": "ratio"})
    salun = chosen.method.prepare(task, chosen.options, analyse=lambda: analysis, track=silent)
    mask, alpha = salun.mask(0.25).numpy(), float(analysis.alpha_at(0.25))
    ratios = analysis.ratios.of_parameters(slice(None))
    assert mask.sum() == round(0.25 * len(ratios)) and (ratios[mask] >= alpha).all() and (ratios[~mask] <= alpha).all()
    assert salun.preparation == 3 * (len(task.retain) + len(task.forget)) and salun.analysis is analysis
    moved = salun.trainer.flatten(run(salun, {"lr": 0.5, "steps": 3, "sigma": 0.3, "q": 0.25}, 1).params)
    changed = (moved != salun.trainer.flatten(task.params)).numpy()
    assert changed.any() and not (changed & ~mask).any()


def test_knobs_and_options_are_those_of_the_base():
    names = {"nl-ft": "sigma", "ng": "mu", "bad-teacher": "w_f"}
    for base, own in names.items():
        chosen = choose_method({"name": "salun", "base": base})
        knobs = [knob.name for knob in chosen.method.knobs(chosen.options)]
        assert knobs == ["lr", "steps", own, "q"]
        assert all(list(setting) == knobs for setting in chosen.method.published(chosen.options))
    for section in ({"base": "ng", "sigma": [0.1, 0.2]}, {"mu": [0.1, 0.2]}, {"w_f": [0.1, 0.2]}):
        with pytest.raises(ConfigError, match="has no option") as caught:
            choose_method({"name": "salun", **section})
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConfigError, match="at most 1"):
        choose_method({"name": "salun", "q": [0.1, 2.0]})


def test_labels_are_the_classes_of_perturbed_inputs():
    task = small_task.make_task()
    shrink = prepared(task, "boundary-shrink")
    inputs = torch.stack([x for x, _ in task.forget])
    own = task.model(inputs).argmax(1)
    for eps, crossed in ((1e-3, False), (3.0, True)):
        perturbed = torch.cat([shrink.pseudo_label(batch, eps, generator_of(["0"])) for batch in shrink.raw])
        assert bool((perturbed.argmax(1).sort().values != own.sort().values).any()) == crossed
    output, reference = torch.randn(5, 3), torch.randn(5, 3)
    assert torch.equal(to_class(output, reference, None), cross_entropy(output, reference.argmax(1)))


def test_one_step_of_boundary_shrink_is_the_one_worked_out_by_hand():
    """The worst small change of x = (0.6, 0.5), of class 0 by a hair, is towards class 1."""
    model, x = nn.Linear(2, 2, bias=False), torch.tensor([0.6, 0.5])
    with torch.no_grad():
        model.weight.copy_(torch.eye(2))
    task = Task(
        model, cross_entropy, [(x, torch.tensor(0))], [(x, torch.tensor(0))], lambda output, target: output[:, 0]
    )
    setting = {"lr": 0.05 * 2, "steps": 1, "eps": 1.0}
    found = run(prepared(task, "boundary-shrink", clip=1e9, decay=False), setting, 1).params["weight"]
    slope = (x.softmax(0) - torch.tensor([0.0, 1.0]))[:, None] * x
    assert torch.allclose(found, torch.eye(2) - 0.05 * slope.sign(), atol=1e-5)  # Adam's first step


def test_one_step_of_task_arithmetic_is_the_one_worked_out_by_hand():
    model, x, y = nn.Linear(2, 1, bias=False), torch.tensor([3.0, -1.0]), torch.tensor([-2.0])
    start = model.weight.detach().clone()
    task = Task(model, mse_loss, [(x, -y)], [(x, y)], lambda output, target: output[:, 0])
    setting = {"lr": 0.05 * 2**0.5, "steps": 1, "s": 0.5}
    found = run(prepared(task, "task-arithmetic", clip=1e9, decay=False), setting, 1).params["weight"]
    slope = 2 * (start @ x - y) * x
    assert torch.allclose(found, start + 0.5 * 0.05 * slope.sign(), atol=1e-5)  # Adam's first step, taken back
