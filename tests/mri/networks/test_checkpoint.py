"""Checkpoints of every form and size load, and are written so that stock fastMRI takes them."""

import argparse
import sys
import types
from collections import OrderedDict
from pathlib import Path, PureWindowsPath, WindowsPath

import numpy as np
import pytest
import torch
from fastmri.models import VarNet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ssdtune.mri.networks.checkpoint import read_checkpoint, read_provenance
from ssdtune.mri.networks.models import load_model, save_model, save_new_model
from ssdtune.mri.networks.stock import UnetSizes, VarNetSizes

VARNET = VarNetSizes(cascades=2, channels=3, pools=2, sens_channels=2, sens_pools=1)
UNET = UnetSizes(channels=3, pools=2)
PROVENANCE = {"study": "s", "trial": 7, "alpha": 8.0, "nested": {"list": [1, None, "ä"]}}
MODELS = pytest.mark.parametrize("sizes", [VARNET, UNET], ids=["varnet", "unet"])


ENDING = {"safetensors": ".safetensors"}


def renamed(state, prefix):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def lightning(state, stem):
    """As PyTorch Lightning writes fastMRI's modules: other modules' buffers, optimiser, callbacks, settings."""
    extra = {"loss.w": torch.ones(1, 1, 7, 7) / 49, "NMSE.quantity": torch.tensor(0.0)}
    return {
        "epoch": 49,
        "global_step": 1000,
        "pytorch-lightning_version": "1.4.9",
        "state_dict": renamed(state, f"{stem}.") | extra,
        "callbacks": {"ModelCheckpoint": {"dirpath": Path("/logs"), "best_model_score": torch.tensor(0.1)}},
        "optimizer_states": [{"state": {0: {"step": 5, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 3e-4}]}],
        "lr_schedulers": [{"step_size": 40, "last_epoch": 50}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"chans": 3, "data_path": Path("/data"), "args": argparse.Namespace(lr=3e-4)},
    }


FORMS = {
    "plain": lambda state, stem: state,
    "plain dict": lambda state, stem: dict(state),
    "DataParallel": lambda state, stem: renamed(state, "module."),
    "state_dict": lambda state, stem: {"state_dict": state, "epoch": 3},
    "model": lambda state, stem: {
        "model": renamed(state, "module."),
        "args": argparse.Namespace(exp_dir=Path("exp")),
        "best_dev_loss": np.float64(0.25),
        "optimizer": {"state": {}, "param_groups": []},
        "exp_dir": Path("exp"),
    },
    "lightning": lightning,
}
FORMS["safetensors"] = FORMS["DataParallel"]
IN_FORMS = pytest.mark.parametrize("form", FORMS)


def write(path, sizes, form="plain", net=None):
    torch.manual_seed(1)
    net = net or sizes.net()
    content = FORMS[form](net.state_dict(), "varnet" if isinstance(net, VarNet) else "unet")
    if form == "safetensors":
        save_file(content, path, {"format": "pt"})
    else:
        torch.save(content, path)
    return net


def strictly_loaded(path, sizes, form):
    """The file in a stock network, by plain PyTorch: the file's own container and prefix, then strict=True."""
    bare = form in ("plain", "plain dict", "DataParallel", "safetensors")
    content = load_file(path) if form == "safetensors" else torch.load(path, weights_only=bare or form == "state_dict")
    state = content if bare else content["model" if form == "model" else "state_dict"]
    net = sizes.net()
    if form in ("DataParallel", "model", "safetensors"):
        torch.nn.DataParallel(net).load_state_dict(state, strict=True)
    elif form == "lightning":
        module = torch.nn.Module()  # fastMRI's VarNetModule and UnetModule, as far as their state goes
        module.add_module("varnet" if sizes is VARNET else "unet", net)
        module.loss, module.NMSE = torch.nn.Module(), torch.nn.Module()
        module.loss.register_buffer("w", torch.zeros(1, 1, 7, 7))
        module.NMSE.register_buffer("quantity", torch.zeros(()))
        module.load_state_dict(state, strict=True)
    else:
        net.load_state_dict(state, strict=True)
    return net


@IN_FORMS
@MODELS
def test_every_form_loads_and_is_written_back(tmp_path, sizes, form):
    source, target = (tmp_path / f"{name}{ENDING.get(form, '.pt')}" for name in ("model", "unlearned"))
    net = write(source, sizes, form)
    loaded = load_model(source)
    assert loaded.sizes == sizes
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.module.net.state_dict()[name], value)

    params = {name: value.detach() * 0.5 for name, value in loaded.module.named_parameters()}
    save_model(target, loaded, params, PROVENANCE)
    again = strictly_loaded(target, sizes, form)
    for name, value in again.named_parameters():
        assert torch.equal(value, params[f"net.{name}"])
    assert read_provenance(target) == PROVENANCE
    assert read_provenance(source) is None
    assert load_model(target).form == loaded.form
    assert load_model(target).prefix == loaded.prefix
    for name, value in loaded.module.named_parameters():
        assert torch.equal(value, net.get_parameter(name.removeprefix("net."))), "the loaded model was changed"


@IN_FORMS
def test_settings_and_numbers_beside_the_tensors_are_kept(tmp_path, form):
    source, target = (tmp_path / f"{name}{ENDING.get(form, '.pt')}" for name in ("model", "unlearned"))
    write(source, VARNET, form)
    save_model(target, load_model(source), {}, PROVENANCE)
    before, after = read_checkpoint(source), read_checkpoint(target)
    assert list(after.state) == list(before.state)
    assert all(torch.equal(after.state[name], value) for name, value in before.state.items())
    if before.key:
        kept = {name: value for name, value in after.payload.items() if name != "ssdtune_provenance"}
        expected = {key: value for key, value in before.payload.items() if key != "optimizer_states"}
        assert list(kept) == list(expected)
        assert str({**kept, before.key: 0}) == str({**expected, before.key: 0})
    elif form == "safetensors":
        assert before.metadata.items() <= after.metadata.items()
    else:
        modules = getattr(before.state, "_metadata", {})
        assert modules.items() <= after.state._metadata.items()


def test_provenance_is_replaced_when_a_written_checkpoint_is_written_again(tmp_path):
    for form in FORMS:
        first, second = (tmp_path / f"{name}{ENDING.get(form, '.pt')}" for name in "ab")
        write(first, UNET, form)
        save_model(second, load_model(first), {}, {"n": 1})
        save_model(second, load_model(second), {}, {"n": 2})
        assert read_provenance(second) == {"n": 2}


def test_half_precision_is_computed_in_single_and_written_in_half(tmp_path):
    write(tmp_path / "half.pt", VARNET, net=VARNET.net().half())
    loaded = load_model(tmp_path / "half.pt")
    assert {value.dtype for value in loaded.module.parameters()} == {torch.float32}
    save_model(tmp_path / "out.pt", loaded, dict(loaded.module.named_parameters()), {})
    assert {value.dtype for value in torch.load(tmp_path / "out.pt").values()} == {torch.float16}


@given(
    sizes=st.one_of(
        st.builds(VarNetSizes, *[st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)] + 2 * [st.integers(1, 4)]),
        st.builds(UnetSizes, st.integers(1, 5), st.integers(1, 4)),
    )
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sizes_are_read_off_the_tensors(tmp_path, sizes):
    net = write(tmp_path / "model.pt", sizes)
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.sizes == sizes
    assert loaded.architecture == ("varnet" if isinstance(net, VarNet) else "unet")


def test_loading_draws_no_random_numbers(tmp_path):
    write(tmp_path / "model.pt", VARNET)
    before = torch.random.get_rng_state()
    load_model(tmp_path / "model.pt")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_mask_center_comes_from_the_hyper_parameters(tmp_path):
    content = lightning(VARNET.net().state_dict(), "varnet")
    content["hyper_parameters"]["mask_center"] = False
    torch.save(content, tmp_path / "model.ckpt")
    assert load_model(tmp_path / "model.ckpt").module.net.sens_net.mask_center is False


def test_buffers_of_earlier_fastmri_are_tolerated_and_left_out(tmp_path):
    state = VARNET.net().state_dict()
    state["cascades.0.zero"] = torch.zeros(1, 1, 1, 1, 1)
    state["loss.w"] = torch.ones(1, 1, 7, 7)
    torch.save(state, tmp_path / "old.pt")
    save_model(tmp_path / "new.pt", load_model(tmp_path / "old.pt"), {}, {})
    VARNET.net().load_state_dict(torch.load(tmp_path / "new.pt"), strict=True)


class WindowsFolder:
    def __reduce__(self):
        return WindowsPath, ("C:/data",)


def test_harmless_values_of_other_packages_and_systems_are_read(tmp_path, monkeypatch):
    """Lightning's attribute dict and class-keyed callbacks, Windows paths: read by name, Lightning not imported."""

    def elsewhere(module, name, base):
        made = type(name, (base,), {"__module__": module})
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            patch.setitem(sys.modules, ".".join(parts[:count]), types.ModuleType(module))
        setattr(sys.modules[module], name, made)
        return made

    with monkeypatch.context() as patch:
        attribute_dict = elsewhere("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
        callback = elsewhere("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", object)
        content = lightning(VARNET.net().state_dict(), "varnet")
        content["hyper_parameters"] = attribute_dict(chans=3, path=WindowsFolder())
        content["callbacks"] = {callback: {"best": np.float32(0.5)}}
        torch.save(content, tmp_path / "model.ckpt")
    for _ in range(2):
        loaded = load_model(tmp_path / "model.ckpt")
        assert loaded.checkpoint.hyper_parameters == {"chans": 3, "path": PureWindowsPath("C:/data")}
        assert loaded.checkpoint.payload["callbacks"] == {"ModelCheckpoint": {"best": 0.5}}
        save_model(tmp_path / "model.ckpt", loaded, {}, PROVENANCE)


def test_a_new_model_is_a_plain_state_dict(tmp_path):
    module = VARNET.reconstructor()
    save_new_model(tmp_path / "new.pt", module, PROVENANCE)
    strictly_loaded(tmp_path / "new.pt", VARNET, "plain")
    assert read_provenance(tmp_path / "new.pt") == PROVENANCE
    save_new_model(tmp_path / "new.safetensors", module, PROVENANCE)
    VARNET.net().load_state_dict(load_file(tmp_path / "new.safetensors"), strict=True)
