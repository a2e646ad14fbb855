"""Checkpoints that cannot be used, would run code, or cannot be written are one error, and nothing is lost."""

import os
import pickle
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from fastmri.models import Unet
from omegaconf import OmegaConf
from safetensors.torch import save_file

from ssdtune.errors import ModelError
from ssdtune.mri.networks.models import load_model, save_model
from ssdtune.mri.networks.stock import UnetSizes, VarNetSizes

VARNET = VarNetSizes(cascades=2, channels=3, pools=2, sens_channels=2, sens_pools=1)
UNET = UnetSizes(channels=3, pools=2)


def write(path, sizes):
    torch.save(sizes.net().state_dict(), path)


def refused(path, match):
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


class Evil:
    def __init__(self, call, *arguments):
        self.recipe = (call, arguments)

    def __reduce__(self):
        return self.recipe


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "bare pickle"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, beside, zipped):
    sentinel = tmp_path / "sentinel"
    for evil in (
        Evil(os.system, f"touch {sentinel}"),
        Evil(exec, f"open({str(sentinel)!r}, 'w')"),
        Evil(Path.touch, sentinel),
    ):
        content = {**VARNET.net().state_dict(), "x": evil} if beside else evil
        if zipped:
            torch.save(content, tmp_path / "evil.pt")
        else:
            (tmp_path / "evil.pt").write_bytes(pickle.dumps(content, protocol=2 + 2 * beside))
        # PyTorch writes pickles of protocol 2 and its weights-only reader knows no later one
        refused(tmp_path / "evil.pt", "would run code" if zipped or not beside else "not a PyTorch checkpoint")
    assert not sentinel.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(UNET.net(), tmp_path / "module.pt")
    refused(tmp_path / "module.pt", "would run code.*Unet.*state_dict")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (OmegaConf.create({"lr": 3e-4}), r"omegaconf\.dictconfig\.DictConfig\)"),
        (np.ones(3), r"numpy[\w.]+\)"),
        (np.random.default_rng(0), r"numpy[\w.]+\)"),
        (datetime(2026, 1, 1), r"datetime\.datetime\)"),
        (Evil(sorted, "x"), r"builtins\.sorted\)|sorted\)"),
    ],
)
def test_objects_of_other_packages_are_named_in_one_sentence(tmp_path, value, name):
    torch.save({"state_dict": UNET.net().state_dict(), "config": value}, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", rf"would run code when loaded \(it holds a {name}, refused, .*weights_only=False")


def test_an_object_scalar_is_refused(tmp_path):
    content = {**UNET.net().state_dict(), "x": Evil(np.float64(1).__reduce__()[0], np.dtype("O"), b"12345678")}
    torch.save(content, tmp_path / "object.pt")
    refused(tmp_path / "object.pt", "not a|damaged")


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keep):
    write(tmp_path / "model.pt", VARNET)
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    refused(tmp_path / "model.pt", "truncated|not a PyTorch checkpoint")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"hello, this is no checkpoint", "not a PyTorch checkpoint"),
        (torch.ones(3), "holds a Tensor"),
        ({"a": 1}, "holds no state dict"),
        ({"conv.weight": torch.ones(3)}, r"neither a fastMRI VarNet nor a U-Net.*conv\.weight"),
        ({"a": {"x.y": torch.ones(1)}, "b": {"x.y": torch.ones(1)}}, "several state dicts"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, match):
    path = tmp_path / "model.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    refused(path, match)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "absent.pt", "cannot read.*No such file")
    refused(tmp_path, "cannot read.*directory")
    os.mkfifo(tmp_path / "pipe.pt")
    refused(tmp_path / "pipe.pt", "cannot read.*not a file")


def test_tensors_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "model.pt"
    state = VARNET.net().state_dict()
    torch.save({**state, "cascades.0.policy": torch.ones(1)}, path)
    refused(path, r"1 tensors unknown \(cascades\.0\.policy\)")
    torch.save({name: value for name, value in state.items() if name != "cascades.1.dc_weight"}, path)
    refused(path, r"1 tensors missing \(cascades\.1\.dc_weight\)")
    torch.save({**state, "cascades.1.dc_weight": torch.ones(2)}, path)
    refused(path, r"1 tensors of another shape \(cascades\.1\.dc_weight\)")
    torch.save({name: value for name, value in state.items() if "sens_net" not in name}, path)
    refused(path, "no tensor 'sens_net")
    torch.save({**state, "cascades.1.dc_weight": torch.tensor([float("nan")])}, path)
    refused(path, r"NaN or infinity \(cascades\.1\.dc_weight\)")
    torch.save({f"{prefix}.{name}": value for prefix in "ab" for name, value in state.items()}, path)
    refused(path, "several networks")
    torch.save(Unet(2, 2, chans=2, num_pool_layers=1).state_dict(), path)
    refused(path, "2 channels in and 2 out")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda value: (100 * value).to(torch.int8), "int8"),
        (lambda value: value.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "qint8"),
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: value.to("meta"), "without values"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's, about kinds that it will give up
def test_tensors_of_other_kinds_are_refused(tmp_path, change, kind):
    torch.save({name: change(value) for name, value in UNET.net().state_dict().items()}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", f"tensors are {kind}.*as float32")


def test_the_other_architecture_is_refused_by_name(tmp_path):
    write(tmp_path / "model.pt", VARNET)
    with pytest.raises(ModelError, match="holds a VarNet, not a U-Net"):
        load_model(tmp_path / "model.pt", "unet")


def test_an_unknown_parameter_is_refused(tmp_path):
    write(tmp_path / "model.pt", UNET)
    with pytest.raises(ModelError, match=r"no parameter 'net\.x'"):
        save_model(tmp_path / "out.pt", load_model(tmp_path / "model.pt"), {"net.x": torch.ones(1)}, {})


def test_a_damaged_safetensors_file_and_a_name_of_another_form_are_refused(tmp_path):
    save_file(UNET.net().state_dict(), tmp_path / "m.safetensors")
    write(tmp_path / "m.pt", UNET)
    for source, out in (("m.safetensors", "out.pt"), ("m.pt", "out.safetensors")):
        with pytest.raises(ModelError, match="as the new one will be"):
            save_model(tmp_path / out, load_model(tmp_path / source), {}, {})
        assert not (tmp_path / out).exists()
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:-10])
    refused(tmp_path / "cut.safetensors", "damaged safetensors file")


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, small_disk):
    write(tmp_path / "model.pt", VARNET)
    loaded = load_model(tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    with small_disk(1000), pytest.raises(ModelError, match="cannot write") as caught:
        save_model(tmp_path / "model.pt", loaded, {}, {})
    assert "\n" not in str(caught.value)
    assert (tmp_path / "model.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_a_folder_without_write_permission_is_one_error(tmp_path, unprivileged):
    write(tmp_path / "model.pt", UNET)
    loaded = load_model(tmp_path / "model.pt")
    (tmp_path / "locked").mkdir(mode=0o500)
    with unprivileged(), pytest.raises(ModelError, match=r"cannot write \(Permission denied"):
        save_model(tmp_path / "locked" / "out.pt", loaded, {}, {})


def test_a_path_below_a_file_is_one_error(tmp_path):
    write(tmp_path / "model.pt", UNET)
    with pytest.raises(ModelError, match="cannot write"):
        save_model(tmp_path / "model.pt" / "out.pt", load_model(tmp_path / "model.pt"), {}, {})
