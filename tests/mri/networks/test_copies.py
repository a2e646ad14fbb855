"""Nothing of the old weights is left in an unlearned file, however often and wherever the original holds them."""

import argparse
import copy
import io
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from ssdtune.mri.networks.models import load_model, save_model
from ssdtune.mri.networks.stock import UnetSizes, VarNetSizes

STATE = VarNetSizes(cascades=2, channels=3, pools=2, sens_channels=2, sens_pools=1).net().state_dict()


def renamed(state, prefix):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def lightning(state, stem):
    return {
        "pytorch-lightning_version": "2.6.0",
        "state_dict": renamed(state, f"{stem}."),
        "hyper_parameters": {"chans": 3, "args": argparse.Namespace(lr=3e-4)},
    }


def averaged(state):
    """Another copy of the same names and shapes, near the first."""
    return OrderedDict((name, value * 1.01) for name, value in state.items())


def moments(state):
    both = {n: {"step": torch.tensor(5.0), "exp_avg": v, "exp_avg_sq": v**2} for n, v in enumerate(state.values())}
    return {"state": both, "param_groups": [{"lr": 3e-4, "params": list(both)}]}


def packed(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def view_of(state):
    return next(iter(state.values())).reshape(-1)[0]


KINDS = {
    "Lightning's weight averaging": lambda s: {
        **lightning(s, "varnet"),
        "current_model_state": averaged(renamed(s, "varnet.")),
        "averaging_state": {"n_averaged": torch.tensor(3)},
    },
    "the same tensors twice": lambda s: {**lightning(s, "varnet"), "current_model_state": renamed(s, "varnet.")},
    "model and ema": lambda s: {"model": s, "ema": averaged(s), "epoch": 3},
    "model and wrapped ema": lambda s: {"model": s, "ema": {"module": averaged(s), "decay": 0.99}},
    "shadow parameters": lambda s: {"model": s, "ema": {"shadow_params": list(averaged(s).values())}},
    "a tuple of them": lambda s: {"model": s, "ema": (3, tuple(averaged(s).values()))},
    "a callback's": lambda s: {**lightning(s, "varnet"), "callbacks": {"EMA": {"state": averaged(s)}}},
    "optimiser moments": lambda s: {"model": s, "optimizer": moments(s)},
    "moments in a list": lambda s: {**lightning(s, "varnet"), "optimizer_states": [moments(s)]},
    "in half precision": lambda s: {"model": s, "half": {name: value.half() for name, value in s.items()}},
    "one flat vector": lambda s: {"model": s, "flat": torch.cat([value.reshape(-1) for value in s.values()])},
    "packed bytes": lambda s: {"model": s, "backup": packed(s)},
    "a number that is a view": lambda s: {"model": s, "first": view_of(s), "deep": {"list": [view_of(s)]}},
    "an average in the state dict": lambda s: {
        "state_dict": renamed(s, "model.")
        | {f"model_ema.{name.replace('.', '')}": value for name, value in averaged(s).items()}
    },
    "a part of it elsewhere in the state dict": lambda s: {
        "state_dict": renamed(s, "model.")
        | {f"best.{number}": value for number, value in enumerate(list(s.values())[:3])}
    },
    "an extra state": lambda s: {"state_dict": renamed(s, "model.") | {"model_extra_state": {"kept": averaged(s)}}},
    "settings": lambda s: {**lightning(s, "varnet"), "hyper_parameters": {"weights": view_of(s)[None]}},
}


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


@pytest.mark.parametrize("kind", KINDS)
def test_every_copy_is_left_out(tmp_path, kind):
    torch.save(KINDS[kind](copy.deepcopy(STATE)), tmp_path / "model.pt")
    loaded = load_model(tmp_path / "model.pt")
    new = {name: torch.full_like(value, 7.5) for name, value in loaded.module.named_parameters()}
    left_out = save_model(tmp_path / "new.pt", loaded, new, {})
    found = torch.load(tmp_path / "new.pt", weights_only=False)
    strangers = [t for t in tensors(found) if t.numel() > 1 and not (t == t.reshape(-1)[0]).all()]
    assert not strangers
    for tensor in tensors(found):  # nor hidden behind a view
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    assert (tmp_path / "new.pt").stat().st_size < 2.2 * _size(STATE, tmp_path)
    assert bool(left_out) == (kind != "a number that is a view")
    again = load_model(tmp_path / "new.pt")
    assert all(bool((value == 7.5).all()) for value in again.module.parameters())


def _size(state, folder):
    torch.save(state, folder / "plain.pt")
    return (folder / "plain.pt").stat().st_size


def test_what_is_no_copy_stays_in_the_state_dict(tmp_path):
    others = {"loss.w": torch.ones(1, 1, 7, 7) / 49, "NMSE.quantity": torch.tensor(0.0), "n_averaged": torch.tensor(2)}
    others["discriminator.0.weight"] = torch.randn(64, 1, 3, 3)
    torch.save({"state_dict": renamed(STATE, "varnet.") | others}, tmp_path / "model.pt")
    assert save_model(tmp_path / "new.pt", load_model(tmp_path / "model.pt"), {}, {}) == []
    assert others.keys() < torch.load(tmp_path / "new.pt")["state_dict"].keys()


def test_an_average_in_a_safetensors_file_is_left_out(tmp_path):
    state = renamed(UnetSizes(channels=3, pools=2).net().state_dict(), "module.")
    ema = {f"ema.{number}": value * 1.01 for number, value in enumerate(state.values())}
    save_file(state | ema, tmp_path / "m.safetensors")
    left = save_model(tmp_path / "new.safetensors", load_model(tmp_path / "m.safetensors"), {}, {})
    assert left == ["ema.*"]
    assert load_model(tmp_path / "new.safetensors").checkpoint.state.keys() == state.keys()


def test_settings_keep_their_kind(tmp_path):
    content = lightning(STATE, "varnet") | {"order": OrderedDict(a=1), "tuple": (1, 2)}
    torch.save(content, tmp_path / "model.pt")
    save_model(tmp_path / "new.pt", load_model(tmp_path / "model.pt"), {}, {})
    found = torch.load(tmp_path / "new.pt", weights_only=False)
    assert found["tuple"] == (1, 2)
    assert isinstance(found["order"], OrderedDict)
    assert found["hyper_parameters"]["args"].lr == 3e-4
