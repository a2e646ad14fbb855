"""The stock networks on inputs prepared once: the same numbers to float32 rounding, in about half the time on a CPU.

Notation: B slices, C coils, H x W pixels (W the undersampled axis), F a centred FFT; M the sampled columns, k the
measured k-space, S the sensitivity maps, w a cascade's data-consistency weight, U its network, u the current estimate.
A cascade (Sriram et al., MICCAI 2020, eq. 8) is

    u <- u - w M (u - k) - F S U(S* F^-1 u).

Two identities save most of the time. M acts on columns, so it commutes with the FFT over rows: that is done once when
inputs are prepared, and a cascade needs FFTs along W alone. Rolling the columns once leaves no FFT to be centred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from fastmri.models import Unet
from torch import Tensor, nn
from torch.nn import functional as F

from ssdtune.mri.networks.fast_unet import Params, Unets, faster_channels_last

if TYPE_CHECKING:
    from ssdtune.mri.networks.stock import UnetReconstructor, VarNetReconstructor

MULTIPLE = 16  # fastMRI's NormUnet pads images to it


class PreparedKspace(NamedTuple):
    """Slices ready for ``QuickVarNet``; columns are rolled so that no FFT along W needs centring.

    rows : (B, C, H, W) complex64, masked k-space after the inverse FFT over rows.
    mask, centre : (B, 1, 1, W, 2) float32, 1 where a column is sampled, and where it is a centre line; twice, for real
    and imaginary part.
    """

    rows: Tensor
    mask: Tensor
    centre: Tensor


class QuickVarNet:
    """``VarNetReconstructor`` in another arrangement; parameters go by that module's names.

    ``dtype`` is what the networks compute in; bfloat16 needs a check that SSIM does not move (``objective.precision``).
    FFTs and data consistency stay float32.
    """

    map_params = "net.sens_net."  # the parameters that the sensitivity maps depend on begin so

    def __init__(self, module: VarNetReconstructor, dtype: torch.dtype = torch.float32) -> None:
        net = module.net
        self.cascades = len(net.cascades)
        self.mask_center = bool(net.sens_net.mask_center)
        self.unets = _unets(module, dtype)

    def ready(self, params: Params) -> Params:
        """Parameters as they are used."""
        laid = self.unets.laid
        return {name: value if name.endswith("dc_weight") else laid(name, value) for name, value in params.items()}

    def prepare(self, masked_kspace: Tensor, mask: Tensor, acs: Tensor) -> PreparedKspace:
        """Inputs of ``VarNetReconstructor.forward``, made ready once."""
        kspace = torch.view_as_complex(masked_kspace.contiguous())
        rows = torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(kspace, -2), dim=-2, norm="ortho"), -2)
        rows = torch.fft.ifftshift(rows, -1).contiguous()
        columns, lines = (
            torch.fft.ifftshift(chosen[..., 0], -1).to(rows.real.dtype)[..., None].repeat(1, 1, 1, 1, 2)
            for chosen in (mask, acs)
        )
        return PreparedKspace(rows, columns, lines)

    def maps(self, params: Params, sample: PreparedKspace) -> Tensor:
        """(B, C, H, W) complex64, columns rolled; depends on the parameters under ``map_params`` only."""
        rows = sample.rows
        if self.mask_center:
            rows = torch.view_as_complex(torch.view_as_real(rows) * sample.centre)
        images = torch.fft.ifft(rows, norm="ortho")
        batch, coils, height, width = images.shape
        maps = self._network(params, "net.sens_net.norm_unet.unet.", images.reshape(-1, height, width))
        maps = maps.reshape(batch, coils, height, width)
        parts = torch.view_as_real(maps)
        size = _root_sum_of_squares(parts)[:, None, :, :, None]
        return torch.view_as_complex(parts / size)

    def __call__(self, params: Params, sample: PreparedKspace, maps: Tensor) -> Tensor:
        """Magnitude images (B, H, W) float32 with given maps; reads the cascades' parameters only."""
        measured = torch.view_as_real(sample.rows)
        current, conjugate = sample.rows, maps.conj().resolve_conj()
        for number in range(self.cascades):
            cascade = f"net.cascades.{number}."
            weight = params[cascade + "dc_weight"] * sample.mask
            image = (torch.fft.ifft(current, norm="ortho") * conjugate).sum(dim=1)
            update = self._network(params, cascade + "model.unet.", image)
            update = torch.view_as_real(torch.fft.fft(update[:, None] * maps, norm="ortho"))
            values = torch.view_as_real(current)
            current = torch.view_as_complex(values - (values - measured) * weight - update)
        images = torch.view_as_real(torch.fft.ifft(current, norm="ortho"))
        found: Tensor = torch.fft.fftshift(_root_sum_of_squares(images), -1)
        return found

    def _network(self, params: Params, prefix: str, image: Tensor) -> Tensor:
        """fastMRI's NormUnet on (N, H, W) complex images whose columns are rolled."""
        image = torch.fft.fftshift(image, -1)
        parts = torch.stack((image.real, image.imag), dim=1)
        height, width = parts.shape[-2:]
        mean = parts.mean(dim=(-2, -1), keepdim=True)
        parts = parts - mean
        std = ((parts * parts).sum(dim=(-2, -1), keepdim=True) / (height * width - 1)).sqrt()
        top, left = (-height % MULTIPLE) // 2, (-width % MULTIPLE) // 2
        padded = F.pad(parts / std, (left, -width % MULTIPLE - left, top, -height % MULTIPLE - top))
        output = self.unets(params, prefix, padded).to(parts.dtype)
        output = output[..., top : top + height, left : left + width] * std + mean
        found: Tensor = torch.fft.ifftshift(torch.complex(output[:, 0], output[:, 1]), -1)
        return found


def _root_sum_of_squares(parts: Tensor) -> Tensor:
    """(B, H, W) over coils and parts of (B, C, H, W, 2); one sum after the other, 3 times faster than both at once."""
    return (parts * parts).sum(dim=1).sum(dim=-1).sqrt()


class QuickUnet:
    """``UnetReconstructor`` in another arrangement; it has no sensitivity maps."""

    map_params = ""

    def __init__(self, module: UnetReconstructor, dtype: torch.dtype = torch.float32) -> None:
        self.unets = _unets(module, dtype)

    def ready(self, params: Params) -> Params:
        """Parameters as they are used."""
        return {name: self.unets.laid(name, value) for name, value in params.items()}

    def prepare(self, image: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of ``UnetReconstructor.forward``, as they are."""
        return image[:, None], mean[:, None, None], std[:, None, None]

    def maps(self, params: Params, sample: tuple[Tensor, ...]) -> None:
        return None

    def __call__(self, params: Params, sample: tuple[Tensor, ...], maps: None = None) -> Tensor:
        """Magnitude images (B, H, W) float32."""
        image, mean, std = sample
        return self.unets(params, "net.", image)[:, 0].to(image.dtype) * std + mean


def _unets(module: nn.Module, dtype: torch.dtype) -> Unets:
    """All U-Nets of a module, each in the memory format that is faster for it."""
    device = next(module.parameters()).device
    nets = {f"{name}.": net for name, net in module.named_modules() if isinstance(net, Unet)}
    return Unets(dtype, [prefix for prefix, net in nets.items() if faster_channels_last(net.chans, dtype, device)])
