"""The stock fastMRI networks behind one face: ``forward(*inputs) -> image``, without data-dependent control flow.

Shapes: B slices, C coils, H x W k-space (W the undersampled axis), a last axis of 2 for real and imaginary part.
Each module holds the stock network as ``net`` and owns no parameter besides, so its parameters are the stock ones
under the prefix ``net.``; ``torch.func`` (``vmap``, ``grad``, ``functional_call``) works on them.
"""

from __future__ import annotations

from dataclasses import dataclass

import fastmri
import torch
from fastmri.models import Unet, VarNet
from torch import Tensor, nn

from ssdtune.mri.networks.fast import QuickUnet, QuickVarNet


@dataclass(frozen=True)
class VarNetSizes:
    """Everything ``fastmri.models.VarNet`` is built from."""

    cascades: int = 12
    channels: int = 18
    pools: int = 4
    sens_channels: int = 8
    sens_pools: int = 4
    mask_center: bool = True

    def net(self) -> VarNet:
        """The stock network of these sizes, freshly initialised."""
        return VarNet(
            num_cascades=self.cascades,
            sens_chans=self.sens_channels,
            sens_pools=self.sens_pools,
            chans=self.channels,
            pools=self.pools,
            mask_center=self.mask_center,
        )

    def reconstructor(self) -> VarNetReconstructor:
        """The stock network of these sizes as a reconstructor, freshly initialised."""
        return VarNetReconstructor(self.net())


@dataclass(frozen=True)
class UnetSizes:
    """Everything ``fastmri.models.Unet`` is built from; one channel in and out, as fastMRI's magnitude images."""

    channels: int = 32
    pools: int = 4

    def net(self) -> Unet:
        """The stock network of these sizes, freshly initialised."""
        return Unet(1, 1, chans=self.channels, num_pool_layers=self.pools)

    def reconstructor(self) -> UnetReconstructor:
        """The stock network of these sizes as a reconstructor, freshly initialised."""
        return UnetReconstructor(self.net())


class VarNetReconstructor(nn.Module):
    """End-to-end variational network (Sriram et al., MICCAI 2020) on masked k-space.

    Equal to ``fastmri.models.VarNet.forward``, which finds the centre lines from its data; here they are an input.
    """

    def __init__(self, net: VarNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, masked_kspace: Tensor, mask: Tensor, acs: Tensor) -> Tensor:
        """Reconstructed magnitude images, float32 (B, H, W).

        masked_kspace : float32 (B, C, H, W, 2).
        mask, acs : bool (B, 1, 1, W, 1), the sampled lines and the fully sampled centre lines.
        """
        sens_net = self.net.sens_net
        centre = torch.where(acs, masked_kspace, 0.0) if sens_net.mask_center else masked_kspace
        images, batch = sens_net.chans_to_batch_dim(fastmri.ifft2c(centre))
        maps = sens_net.batch_chans_to_chan_dim(sens_net.norm_unet(images), batch)
        maps = sens_net.divide_root_sum_of_squares(maps)
        kspace = masked_kspace
        for cascade in self.net.cascades:
            kspace = cascade(kspace, masked_kspace, mask, maps)
        found: Tensor = fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(kspace)), dim=1)
        return found

    def quick(self, dtype: torch.dtype = torch.float32) -> QuickVarNet:
        """The same network for many evaluations of the same slices; its networks compute in ``dtype``."""
        return QuickVarNet(self, dtype)


class UnetReconstructor(nn.Module):
    """U-Net (Zbontar et al., arXiv:1811.08839) on the normalised zero-filled magnitude image."""

    def __init__(self, net: Unet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Reconstructed magnitude images in the data's own units, float32 (B, H, W).

        image : float32 (B, H, W), normalised by ``mean`` and ``std``, each (B,), as fastMRI's UnetDataTransform does.
        """
        output = self.net(image.unsqueeze(1)).squeeze(1)
        found: Tensor = output * std[:, None, None] + mean[:, None, None]
        return found

    def quick(self, dtype: torch.dtype = torch.float32) -> QuickUnet:
        """The same network for many evaluations of the same slices; it computes in ``dtype``."""
        return QuickUnet(self, dtype)


Sizes = VarNetSizes | UnetSizes
Reconstructor = VarNetReconstructor | UnetReconstructor
