"""Forms of the spectral update that were tried: their limits, where each is the plain one."""

import pytest
import small_task
import torch

from benchmarks.spectral_forms import FORMS, Form, FormOptions, plain
from ssdtune.fisher.analysis import analyse
from ssdtune.progress import silent
from ssdtune.unlearning.method import run

START = {"mu": 0.4, "w_r": 3.6, "eta": 0.5, "damage": 0.1}


@pytest.fixture(scope="module")
def moved():
    """``moved(**options)``: (P,) what a form adds to the parameters of a small classifier."""
    task = small_task.make_task(oracle=True)

    def flat(params):
        return torch.cat([params[name].flatten() for name in task.params])

    def make(cap=None, **given):
        made = Form().prepare(task, FormOptions(**given), analyse=lambda: analyse(task), track=silent)
        if cap is not None:
            made._trainer.cap = cap
        return flat(run(made, START, 0).params) - flat(task.params)

    return make


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
def test_a_mask_of_all_parameters_and_a_cap_that_is_not_reached_are_the_plain_form(moved):
    plainly = moved(steps=3)
    assert torch.equal(moved(steps=3, share=1.0), plainly)
    assert torch.equal(moved(steps=3, capped=True, cap=float("inf")), plainly)
    assert not torch.equal(moved(steps=3, capped=True, cap=0.0), plainly)


@pytest.mark.filterwarnings("ignore::ssdtune.fisher.analysis.FisherWarning")
@pytest.mark.parametrize("steps", [1, 3])
def test_only_the_share_of_largest_ratio_moves(moved, steps):
    masked = moved(steps=steps, share=0.1)
    assert 0 < int((masked != 0).sum()) <= round(0.1 * len(masked))
    assert masked.norm() > 0.01


def test_every_form_has_one_that_it_is_compared_with():
    assert {plain(label) for label in FORMS} == {"t1", "t5"} <= FORMS.keys()
    assert plain("t5-capped") == plain("t8") == "t5"
    for section in FORMS.values():
        FormOptions(**section)
