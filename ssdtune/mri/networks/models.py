"""Build, load and save the reconstruction models: fastMRI's VarNet and U-Net, sizes read off the tensors.

A state dict names its tensors ``{prefix}{stock name}``: no prefix in plain state dicts, ``varnet.`` or ``unet.`` in
Lightning checkpoints, ``module.`` behind DataParallel. Whatever the prefix is, it is found and kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ssdtune.errors import ModelError
from ssdtune.files import content_hash
from ssdtune.mri.networks.checkpoint import Checkpoint, Form, read_checkpoint, write_checkpoint
from ssdtune.mri.networks.copies import copies_of
from ssdtune.mri.networks.stock import Reconstructor, Sizes, UnetSizes, VarNetSizes
from ssdtune.studyfile import TrainSection

Architecture = Literal["varnet", "unet"]

_TITLE = {"varnet": "VarNet", "unet": "U-Net"}
_VARNET_NAME = re.compile(r"^(.*?)(?:sens_net\.norm_unet\.|cascades\.\d+\.(?:model\.unet\.|dc_weight$))")
_UNET_NAME = re.compile(r"^(.*?)(?:down_sample_layers|up_transpose_conv|up_conv)\.\d+\.")
# buffers of fastMRI's earlier versions and of its Lightning modules, of no use to the network
_BYSTANDER = re.compile(
    r"cascades\.\d+\.zero$|(?:loss|ssim_loss|NMSE|SSIM|PSNR|ValLoss|TotExamples|TotSliceExamples)\."
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and the file it came from.

    module : the reconstructor, float32 on the CPU, in eval mode.
    prefix : what stands before the stock names in the file's state dict.
    """

    module: Reconstructor
    architecture: Architecture
    sizes: Sizes
    prefix: str
    checkpoint: Checkpoint

    @property
    def form(self) -> Form:
        """``state_dict``, ``wrapped``, ``lightning`` or ``safetensors``."""
        return self.checkpoint.form


def build_model(section: TrainSection) -> Reconstructor:
    """A freshly initialised reconstructor of the section's architecture and sizes; weights depend on its seed alone."""
    sizes: Sizes
    if section.architecture == "varnet":
        sizes = VarNetSizes(
            section.cascades, section.channels, section.pools, section.sens_channels, section.sens_pools
        )
    else:
        sizes = UnetSizes(section.channels, section.pools)
    seed = int(content_hash(["initial weights", str(section.seed)])[:12], 16)
    # stock layers draw from the global generator: lend it a seed and put its state back
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return sizes.reconstructor()


def load_model(path: Path | str, architecture: Architecture | Literal["auto"] = "auto") -> LoadedModel:
    """Load a fastMRI VarNet or U-Net checkpoint of any size, form and prefix; no code in the file is executed.

    ``mask_center`` is not in the tensors: Lightning's hyperparameters tell, else fastMRI's default (True) holds.

    Raises ModelError: the file cannot be read, holds another architecture (the message says which tensors do not fit),
    or holds non-finite values.
    """
    checkpoint = read_checkpoint(path)
    tensors = {name: value for name, value in checkpoint.state.items() if isinstance(value, Tensor)}
    found, prefix = _find_network(tensors, checkpoint.path)
    if architecture not in ("auto", found):
        what = f"holds a {_TITLE[found]}, not a {_TITLE[architecture]}"
        raise ModelError(what, path, f'set architecture = "{found}" or name another checkpoint')
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    own = {name: value for name, value in own.items() if not _BYSTANDER.match(name)}
    sizes = _varnet_sizes(own, checkpoint) if found == "varnet" else _unet_sizes(own, checkpoint)
    return LoadedModel(_fill(sizes, own, checkpoint.path), found, sizes, prefix, checkpoint)


def save_model(
    path: Path | str, loaded: LoadedModel, params: Mapping[str, Tensor], provenance: Mapping[str, Any]
) -> list[str]:
    """Write a loaded model's checkpoint again with other parameters, in the form it had, provenance inside.

    Nothing of the old weights is left in the file: further copies, averages and optimiser states are left out, and
    their names returned.

    params : by the names of ``loaded.module.named_parameters()``; any that is not given stays as it was. Dtypes are
        kept. Buffers that today's network has no place for are left out, so that it loads with ``strict=True``.

    Raises ModelError: a parameter that the model does not have, or the file cannot be written.
    """
    names = {name: loaded.prefix + name.removeprefix("net.") for name, _ in loaded.module.named_parameters()}
    if strangers := params.keys() - names.keys():
        raise ModelError(f"no parameter {sorted(strangers)[0]!r} in the model", loaded.checkpoint.path)
    state = {
        name: value
        for name, value in loaded.checkpoint.state.items()
        if not (name.startswith(loaded.prefix) and _BYSTANDER.match(name.removeprefix(loaded.prefix)))
    }
    own = {name: value for name, value in state.items() if name.startswith(loaded.prefix)}
    others = {name: value for name, value in state.items() if name not in own and isinstance(value, Tensor)}
    copies = copies_of(own, others)
    for name, value in params.items():
        state[names[name]] = value.detach().to(state[names[name]].dtype)
    kept = {name: value for name, value in state.items() if name not in copies}
    groups = sorted({f"{name.partition('.')[0]}.*" for name in copies})
    return groups + write_checkpoint(path, loaded.checkpoint, kept, provenance)


def save_new_model(path: Path | str, module: Reconstructor, provenance: Mapping[str, Any]) -> None:
    """Write a model that came from no file as a plain state dict under the stock names, or as ``.safetensors``.

    Raises ModelError: the file cannot be written.
    """
    state = module.net.state_dict()
    form: Form = "safetensors" if Path(path).suffix == ".safetensors" else "state_dict"
    write_checkpoint(path, Checkpoint(Path(path), state, form, None), state, provenance)


def _find_network(tensors: Mapping[str, Tensor], path: Path) -> tuple[Architecture, str]:
    """(architecture, prefix) of the one network that the tensor names show."""
    for architecture, pattern in (("varnet", _VARNET_NAME), ("unet", _UNET_NAME)):
        prefixes = sorted({match[1] for name in tensors if (match := pattern.match(name))})
        if len(prefixes) > 1:
            shown = ", ".join(repr(prefix) for prefix in prefixes[:4])
            raise ModelError(f"holds several networks ({shown})", path, "save the one you mean alone")
        if prefixes:
            return ("varnet" if architecture == "varnet" else "unet"), prefixes[0]
    raise ModelError(
        f"neither a fastMRI VarNet nor a U-Net (its tensors are {_some(tensors)})", path, "name another checkpoint"
    )


def _varnet_sizes(own: Mapping[str, Tensor], checkpoint: Checkpoint) -> VarNetSizes:
    cascades = {name.split(".")[1] for name in own if name.startswith("cascades.")}
    channels, pools = _unet_shape(own, "cascades.0.model.unet.", checkpoint.path)[:2]
    sens_channels, sens_pools = _unet_shape(own, "sens_net.norm_unet.unet.", checkpoint.path)[:2]
    mask_center = bool(checkpoint.hyper_parameters.get("mask_center", True))
    return VarNetSizes(len(cascades), channels, pools, sens_channels, sens_pools, mask_center)


def _unet_sizes(own: Mapping[str, Tensor], checkpoint: Checkpoint) -> UnetSizes:
    channels, pools, in_channels = _unet_shape(own, "", checkpoint.path)
    last = own.get(f"up_conv.{pools - 1}.1.weight")
    out_channels = 1 if last is None else last.shape[0]
    if (in_channels, out_channels) != (1, 1):
        what = f"a U-Net of {in_channels} channels in and {out_channels} out"
        raise ModelError(what, checkpoint.path, "use one that maps a magnitude image to a magnitude image")
    return UnetSizes(channels, pools)


def _unet_shape(own: Mapping[str, Tensor], prefix: str, path: Path) -> tuple[int, int, int]:
    """(channels, pools, channels in) of the U-Net under ``prefix``."""
    first = own.get(f"{prefix}down_sample_layers.0.layers.0.weight")
    if first is None or first.ndim != 4:
        raise ModelError(
            f"no tensor '{prefix}down_sample_layers.0.layers.0.weight' of 4 axes", path, "name another checkpoint"
        )
    layers = f"{prefix}down_sample_layers."
    pools = {name.removeprefix(layers).split(".")[0] for name in own if name.startswith(layers)}
    return first.shape[0], len(pools), first.shape[1]


def _fill(sizes: Sizes, own: Mapping[str, Tensor], path: Path) -> Reconstructor:
    """The network of ``sizes`` with the tensors ``own``, every name and shape of which must fit."""
    title = " ".join(f"{key}={value}" for key, value in asdict(sizes).items())
    try:
        with torch.device("meta"):  # shapes only: no random weights to draw and throw away
            module = sizes.reconstructor()
    except (RuntimeError, ValueError, TypeError, OverflowError) as reason:
        raise ModelError(f"no network has the sizes of its tensors ({title})", path, "name another one") from reason
    expected = module.net.state_dict()
    misfits = {
        "missing": [name for name in expected if name not in own],
        "unknown": [name for name in own if name not in expected],
        "of another shape": [name for name in own if name in expected and own[name].shape != expected[name].shape],
    }
    if any(misfits.values()):
        what = "; ".join(f"{len(names)} tensors {kind} ({_some(names)})" for kind, names in misfits.items() if names)
        raise ModelError(f"does not fit fastMRI's network of {title}: {what}", path, "name another checkpoint")
    if odd := {name: kind for name, value in own.items() if (kind := _no_weights(value))}:
        kinds = " and ".join(sorted(set(odd.values())))
        raise ModelError(f"{len(odd)} tensors are {kinds} ({_some(odd)})", path, "save dense weights as float32")
    if broken := [name for name, value in own.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"{len(broken)} tensors hold NaN or infinity ({_some(broken)})", path, "train the model again")
    copies = {name: value.detach().to(torch.float32, copy=True) for name, value in own.items()}
    module.net.load_state_dict(copies, assign=True)
    return module.eval()


def _no_weights(value: Tensor) -> str:
    """What a tensor is, if neither weights as they are trained nor such in half precision; else nothing."""
    if value.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return str(value.dtype).removeprefix("torch.")
    return "without values" if value.is_meta else "" if value.layout == torch.strided else "sparse"


def _some(names: Any, count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
