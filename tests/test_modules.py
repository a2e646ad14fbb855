"""What of a torch model can be unlearned, what is left alone, and what is refused at once; and the way back."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ssdtune.errors import ModelError
from ssdtune.study.tune import tune, unlearned_params
from ssdtune.task import Task


def right(output, target):
    return output.softmax(-1).gather(-1, target[:, None]).squeeze(-1)


def points(label, count=8):
    generator = torch.Generator().manual_seed(label)
    return [(torch.randn(4, generator=generator) + 2 * label, torch.tensor(label)) for _ in range(count)]


def task_of(model, **changes):
    settings = {"loss": cross_entropy, "retain": points(0), "forget": points(1), "quality": right, "floor": 0.0}
    return Task(model, **{**settings, **changes})


class Tied(nn.Module):
    """Two layers with one weight, batch normalisation, buffers kept and not kept in the state."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.norm, self.last = nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, x):
        return self.last(self.norm(self.second(self.first(x).tanh()))) * self.scale


def test_unlearned_parameters_are_a_whole_state_dict():
    torch.manual_seed(0)
    model = Tied()
    task = task_of(model)
    study = tune(task, 3, method="ssd", sampler="random", min_retained=0.0)
    state = unlearned_params(study, task)
    assert state.keys() == model.state_dict().keys()
    again = Tied()
    again.load_state_dict(state)  # strict
    assert torch.equal(state["first.weight"], state["second.weight"])
    x = torch.randn(3, 4)
    params = {name: state[name] for name in task.params}
    torch.testing.assert_close(again.eval()(x), task.predict(params, (x,)))


def test_frozen_layers_are_left_alone_as_in_published_ssd():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    task = task_of(model)
    assert list(task.params) == ["2.weight", "2.bias"]
    assert task.state_dict({}).keys() == model.state_dict().keys()
    for method in ("ssd", "ft"):
        study = tune(task, 2, method=method, sampler="random", min_retained=0.0)
        state = unlearned_params(study, task)
        assert all(torch.equal(state[name], model.state_dict()[name]) for name in ("0.weight", "0.bias"))
    x = torch.randn(3, 4)
    torch.testing.assert_close(task.predict(None, (x,)), model(x))
    assert model[0].weight in list(model.parameters())


def test_a_model_frozen_as_a_whole_counts_as_not_frozen():
    model = nn.Linear(4, 2).requires_grad_(False)
    task = task_of(model)
    assert list(task.params) == ["weight", "bias"]
    assert list(task_of(task.model).params) == ["weight", "bias"]
    half = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    half[0].requires_grad_(False)
    assert list(task_of(task_of(half).model).params) == ["1.weight", "1.bias"]


def lazily(change):
    def make():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        return change(model) or model

    return make


def poisoned(model):
    model[0].weight.data[0, 0] = float("nan")


class Whole(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.layer, self.extra = nn.Linear(4, 2), nn.Parameter(value, requires_grad=value.is_complex())

    def forward(self, x):
        return self.layer(x) * self.extra.real.sum()


class Cached(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.kept = self.layer.weight * 2

    def forward(self, x):
        return self.layer(x)


REFUSED = {
    "DataParallel": (lambda: nn.DataParallel(nn.Linear(4, 2)), "the model is a DataParallel.*model.module"),
    "DataParallel inside": (lambda: nn.Sequential(nn.DataParallel(nn.Linear(4, 2))), "'0' is a DataParallel"),
    "jit": (lambda: torch.jit.script(nn.Linear(4, 2)), "compiled by torch.jit"),
    "compile": (lambda: torch.compile(nn.Linear(4, 2), backend="eager"), "OptimizedModule.*before torch.compile"),
    "BatchNorm": (lambda: nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2)), "'0' .Batch"),
    "SyncBatchNorm": (lambda: nn.Sequential(nn.SyncBatchNorm(4, track_running_stats=False)), "no running statistics"),
    "lazy": (lambda: nn.LazyLinear(2), "'weight' has no shape yet"),
    "meta": (lambda: nn.Linear(4, 2, device="meta"), "'weight' is on the meta device"),
    "sparse": (lambda: Whole(torch.eye(2, dtype=torch.cfloat).to_sparse()), "'extra' is sparse"),
    "complex": (lambda: Whole(torch.ones(2, dtype=torch.complex64)), "'extra' is complex64"),
    "half": (lambda: nn.Linear(4, 2).half(), "'weight' is float16.*model.float"),
    "bfloat16": (lambda: nn.Linear(4, 2).bfloat16(), "'weight' is bfloat16"),
    "NaN": (lazily(poisoned), "'0.weight' holds NaN"),
    "nothing": (nn.Identity, "no parameters"),
    "a kept result": (Cached, "cannot be copied"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_refused_in_one_line(kind):
    make, message = REFUSED[kind]
    model = make()
    with pytest.raises(ModelError, match=message) as refused:
        task_of(model)
    assert "\n" not in str(refused.value)
    with pytest.raises(ModelError, match="the oracle of"):
        task_of(nn.Linear(4, 2), oracle=model)


def test_whole_numbers_and_parametrised_layers_are_served():
    torch.manual_seed(0)
    whole = Whole(torch.ones(2, dtype=torch.int64))
    assert list(task_of(whole).params) == ["layer.weight", "layer.bias"]
    normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))
    task = task_of(normed)
    new = {name: value + 0.1 for name, value in task.params.items()}
    other = copy.deepcopy(normed)
    other.load_state_dict(task.state_dict(new))
    x = torch.randn(3, 4)
    torch.testing.assert_close(task.predict(new, (x,)), other(x))
