"""The reconstructors are the stock networks: same output, same gradients, also under vmap; seeded building."""

import pytest
import torch
from fastmri.data.mri_data import SliceDataset
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import VarNetDataTransform
from fastmri.models import Unet, VarNet
from torch.func import functional_call, grad, vmap

from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.networks.stock import UnetReconstructor, VarNetReconstructor
from ssdtune.mri.quality import training_loss
from ssdtune.studyfile import MaskSection, TrainSection

NUM_LOW = [4, 6, 8]


def stock_varnet(mask_center=True, **sizes):
    torch.manual_seed(0)
    sizes = {"num_cascades": 2, "sens_chans": 2, "sens_pools": 2, "chans": 3, "pools": 2} | sizes
    return VarNet(mask_center=mask_center, **sizes).eval()


def slices(height, width, coils=3, count=3):
    """Masked k-space of random coil images, every slice with a mask and a centre of its own."""
    generator = torch.Generator().manual_seed(height * width)
    kspace = torch.randn(count, coils, height, width, 2, generator=generator)
    mask = torch.rand(count, 1, 1, width, 1, generator=generator) < 0.3
    acs = torch.zeros_like(mask)
    for index, lines in enumerate(NUM_LOW[:count]):
        pad = (width - lines + 1) // 2
        acs[index, :, :, pad : pad + lines] = True
    mask = mask | acs
    target = {"image": torch.rand(count, height - 4, width - 4, generator=generator), "max": torch.ones(count)}
    return torch.where(mask, kspace, 0.0), mask, acs, target


def stock_output(net, kspace, mask):
    """One slice at a time, as stock fastMRI takes one number of centre lines a batch."""
    return torch.cat([net(kspace[i : i + 1], mask[i : i + 1], lines) for i, lines in enumerate(NUM_LOW)])


@pytest.mark.parametrize("size", [(32, 32), (40, 36), (33, 47)])
def test_varnet_equals_stock_over_slices_of_different_masks(size):
    net = stock_varnet()
    kspace, mask, acs, _ = slices(*size)
    ours = VarNetReconstructor(net)(kspace, mask, acs)
    torch.testing.assert_close(ours, stock_output(net, kspace, mask), rtol=1e-5, atol=1e-5)


def test_varnet_equals_stock_on_real_kspace_from_file_to_image(real_data):
    """Our samples into our module against fastMRI's transform into fastMRI's network, its own centre lines and all."""
    files = sorted((real_data / "kspace").glob("*.h5"))
    net = stock_varnet(num_cascades=1)
    section = MaskSection()
    mask_func = create_mask_for_mask_type(section.kind, [section.center_fraction], [section.acceleration])
    stock = SliceDataset(real_data / "kspace", "multicoil", transform=VarNetDataTransform(mask_func))
    samples = open_slices(files, section, "varnet")
    assert len(stock) == len(samples) == 3
    for theirs, (inputs, target) in zip(stock, samples, strict=True):
        assert torch.equal(inputs[0], theirs.masked_kspace)
        with torch.no_grad():
            expected = net(theirs.masked_kspace[None], theirs.mask[None], theirs.num_low_frequencies)
            output = VarNetReconstructor(net)(*(value[None] for value in inputs))
        torch.testing.assert_close(output, expected)
        loss = training_loss(
            VarNetReconstructor(net)(*(value[None] for value in inputs)), {k: v[None] for k, v in target.items()}
        )
        assert all(torch.isfinite(value).all() for value in torch.autograd.grad(loss, list(net.parameters())))


def test_varnet_without_centre_masking_equals_stock():
    net = stock_varnet(mask_center=False)
    kspace, mask, acs, _ = slices(32, 32)
    torch.testing.assert_close(VarNetReconstructor(net)(kspace, mask, acs), net(kspace, mask), rtol=1e-5, atol=1e-5)


def test_varnet_finds_the_same_centre_as_stock_does_from_the_mask():
    net = stock_varnet()
    acs = slices(32, 32)[2]
    pad, lines = net.sens_net.get_pad_and_num_low_freqs(acs, None)
    assert lines.tolist() == NUM_LOW
    assert [int(acs[i, 0, 0, :, 0].nonzero()[0]) for i in range(3)] == pad.tolist()


def test_forward_leaves_its_inputs_alone():
    inputs = slices(32, 32)[:3]
    kept = [value.clone() for value in inputs]
    VarNetReconstructor(stock_varnet())(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, kept, strict=True))


def test_varnet_gradients_equal_stock():
    net = stock_varnet()
    kspace, mask, acs, target = slices(40, 36)
    training_loss(VarNetReconstructor(net)(kspace, mask, acs), target).backward()
    ours = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    training_loss(stock_output(net, kspace, mask), target).backward()
    close_gradients(ours, [p.grad for p in net.parameters()])


@pytest.mark.parametrize("size", [(32, 32), (40, 36), (33, 47)])
def test_varnet_vmapped_gradients_equal_a_loop(size):
    model = VarNetReconstructor(stock_varnet())
    close_per_sample(model, slices(*size)[:3], slices(*size)[3])


def test_unet_equals_stock_and_its_vmapped_gradients_a_loop():
    torch.manual_seed(0)
    net = Unet(1, 1, chans=3, num_pool_layers=2).eval()
    image, mean, std = torch.randn(3, 33, 30), torch.rand(3), torch.rand(3) + 0.5
    ours = UnetReconstructor(net)(image, mean, std)
    stock = net(image[:, None])[:, 0] * std[:, None, None] + mean[:, None, None]
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)
    target = {"image": torch.rand(3, 29, 26), "max": torch.ones(3)}
    close_per_sample(UnetReconstructor(net), (image, mean, std), target)


def close_per_sample(model, inputs, target):
    params = {name: value.detach() for name, value in model.named_parameters()}

    def loss(params, inputs, target):
        output = functional_call(model, params, tuple(value[None] for value in inputs))
        return training_loss(output, {key: value[None] for key, value in target.items()})

    fast = vmap(grad(loss), (None, 0, 0))(params, inputs, target)
    for index in range(len(inputs[0])):
        one = grad(loss)(params, tuple(value[index] for value in inputs), {k: v[index] for k, v in target.items()})
        close_gradients([fast[name][index] for name in one], list(one.values()))


def close_gradients(ours, theirs):
    """Equal to 1e-4 of the whole gradient's norm; all finite."""
    ours, theirs = (torch.cat([value.flatten() for value in values]) for values in (ours, theirs))
    assert torch.isfinite(ours).all()
    assert theirs.norm() > 0
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


@pytest.mark.parametrize("architecture", ["varnet", "unet"])
def test_building_is_seeded_and_leaves_the_global_generator_alone(architecture):
    section = TrainSection(
        architecture=architecture, cascades=1, channels=2, pools=2, sens_channels=2, sens_pools=1, seed=3
    )
    before = torch.random.get_rng_state()
    first = build_model(section).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    second = build_model(section).state_dict()
    other = build_model(section.model_copy(update={"seed": 4})).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert all(name.startswith("net.") for name in first)
