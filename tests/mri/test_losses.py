"""The losses are fastMRI's: SSIMLoss of its VarNet module, L1 of normalised images of its U-Net module."""

import fastmri
import pytest
import torch
from fastmri.data import SliceDataset
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import UnetDataTransform
from fastmri.models import Unet
from torch.func import grad, vmap
from torch.nn.functional import l1_loss as stock_l1

from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.losses import LOSSES, USUAL
from ssdtune.mri.networks.stock import UnetReconstructor
from ssdtune.studyfile import FisherSection, MaskSection
from ssdtune.task import batches


def image_pair(seed=0):
    generator = torch.Generator().manual_seed(seed)
    image, output = torch.rand(2, 24, 20, generator=generator), torch.rand(2, 30, 26, generator=generator)
    return output, {"image": image, "max": image.amax((-2, -1))}


def test_every_name_of_the_study_file_is_a_loss():
    names = FisherSection.model_json_schema()["properties"]["loss"]["enum"]
    assert set(names) == {"auto", *LOSSES}
    assert set(USUAL.values()) <= set(LOSSES)


def test_ssim_is_that_of_fastmri():
    output, target = image_pair()
    cropped = output[:, None, 3:27, 3:23]
    stock = fastmri.SSIMLoss()(cropped, target["image"][:, None], data_range=target["max"])
    assert LOSSES["ssim"](output, target).item() == pytest.approx(stock.item(), abs=1e-6)


def test_l1_is_that_of_fastmris_unet_module(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "s" / "a.h5", slices=3, shape=(64, 48), target_shape=(40, 40))
    mask = MaskSection(kind="random")
    stock = create_mask_for_mask_type(mask.kind, mask.center_fractions, mask.accelerations)
    torch.manual_seed(0)
    net = Unet(1, 1, chans=2, num_pool_layers=2).eval()
    ours = UnetReconstructor(net)
    slices = open_slices([path], mask, "unet")
    for batch, sample in zip(
        batches(slices, 1), SliceDataset(path.parent, "multicoil", UnetDataTransform("multicoil", stock)), strict=True
    ):
        wanted = stock_l1(net(sample.image[None, None]).squeeze(1), sample.target[None])
        found = LOSSES["l1"](ours(*batch.inputs), batch.target)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("normalised", [False, True])
def test_a_batch_costs_the_mean_of_its_samples_and_their_gradients_can_be_mapped(name, normalised):
    output, target = image_pair()
    if normalised:
        target |= {"mean": torch.tensor([0.4, 0.5]), "std": torch.tensor([0.3, 0.2])}

    def loss(one, single):
        return LOSSES[name](one[None], {key: value[None] for key, value in single.items()})

    single = [loss(output[i], {key: value[i] for key, value in target.items()}) for i in range(2)]
    torch.testing.assert_close(torch.stack(single).mean(), LOSSES[name](output, target))
    mapped = vmap(grad(loss))(output, target)
    leaf = output.clone().requires_grad_(True)
    LOSSES[name](leaf, target).backward()
    torch.testing.assert_close(mapped / 2, leaf.grad, rtol=1e-4, atol=1e-8)
