"""Models trained by fastMRI's own transforms, masks and losses go in and come out, and load with strict=True."""

import fastmri
import pytest
import torch
from fastmri.data import SliceDataset
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import UnetDataTransform, VarNetDataTransform, center_crop_to_smallest
from fastmri.models import Unet, VarNet
from torch.nn.functional import l1_loss
from torch.utils.data import DataLoader

from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.losses import LOSSES, USUAL
from ssdtune.mri.networks.models import load_model, save_model
from ssdtune.studyfile import MaskSection
from ssdtune.task import batches

MASK = create_mask_for_mask_type("equispaced_fraction", [0.1], [3])


def varnet(folder):
    net = VarNet(num_cascades=2, sens_chans=2, sens_pools=2, chans=3, pools=2)

    def loss(batch):
        output = net(batch.masked_kspace, batch.mask, batch.num_low_frequencies)
        target, output = center_crop_to_smallest(batch.target, output)
        return fastmri.SSIMLoss()(output.unsqueeze(1), target.unsqueeze(1), data_range=batch.max_value)

    return net, loss, VarNetDataTransform(MASK, use_seed=False), VarNetDataTransform(MASK), torch.optim.Adam


def unet(folder):
    net = Unet(1, 1, chans=3, num_pool_layers=2)

    def loss(batch):
        return l1_loss(net(batch.image.unsqueeze(1)).squeeze(1), batch.target)

    transforms = (UnetDataTransform("multicoil", MASK, use_seed=seeded) for seeded in (False, True))
    return net, loss, *transforms, torch.optim.RMSprop


@pytest.mark.parametrize("make", [varnet, unet])
def test_a_stock_model_is_trained_loaded_measured_and_written_back(make, tmp_path, fastmri_file):
    folder = fastmri_file(tmp_path / "set" / "a.h5", slices=3, coils=2, shape=(48, 40), target_shape=(40, 40)).parent
    torch.manual_seed(0)
    net, loss, training, fixed, optimiser = make(folder)
    steps = optimiser(net.parameters(), lr=1e-3)
    for batch in DataLoader(SliceDataset(folder, "multicoil", training)):
        steps.zero_grad()
        loss(batch).backward()
        steps.step()
    state = {f"{make.__name__}.{name}": value for name, value in net.state_dict().items()}
    content = {"state_dict": state | {"loss.w": torch.ones(1, 1, 7, 7) / 49}, "pytorch-lightning_version": "2.0.0"}
    torch.save(content | {"optimizer_states": [steps.state_dict()]}, tmp_path / "stock.ckpt")

    loaded = load_model(tmp_path / "stock.ckpt")
    assert loaded.architecture == make.__name__
    mask = MaskSection(kind="equispaced_fraction", acceleration=3, center_fraction=0.1)
    slices = open_slices([folder / "a.h5"], mask, loaded.architecture)
    with torch.no_grad():
        for ours, batch in zip(batches(slices, 1), DataLoader(SliceDataset(folder, "multicoil", fixed)), strict=True):
            found = LOSSES[USUAL[loaded.architecture]](loaded.module(*ours.inputs), ours.target)
            assert found.item() == pytest.approx(loss(batch).item(), rel=1e-3, abs=1e-5)

    halved = {name: value.detach() / 2 for name, value in loaded.module.named_parameters()}
    assert save_model(tmp_path / "new.ckpt", loaded, halved, {}) == ["optimizer_states"]
    written = torch.load(tmp_path / "new.ckpt", weights_only=False)["state_dict"]
    assert written.keys() == content["state_dict"].keys()
    prefix = f"{make.__name__}."
    net.load_state_dict({k.removeprefix(prefix): v for k, v in written.items() if k.startswith(prefix)}, strict=True)
    assert all(torch.equal(value, halved[f"net.{name}"]) for name, value in net.named_parameters())
