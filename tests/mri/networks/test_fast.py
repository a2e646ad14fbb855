"""The quick networks are the stock ones: same images over odd and padded sizes, masks and number formats."""

import pytest
import torch

from ssdtune.mri.networks.stock import UnetSizes, VarNetSizes
from ssdtune.mri.quality import image_measures
from ssdtune.task import model_hash


def slices(height, width, coils=3, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, 1, 1, width, 1, generator=generator) < 0.3
    acs = torch.zeros_like(mask)
    acs[..., width // 2 - 3 : width // 2 + 3, :] = True
    mask = mask | acs
    kspace = torch.randn(count, coils, height, width, 2, generator=generator)
    return torch.where(mask, kspace, 0.0), mask, acs


def varnet(**sizes):
    torch.manual_seed(1)
    sizes = {"cascades": 2, "channels": 3, "pools": 2, "sens_channels": 2, "sens_pools": 2} | sizes
    module = VarNetSizes(**sizes).reconstructor().eval()
    for number, cascade in enumerate(module.net.cascades):
        cascade.dc_weight.data.fill_(0.5 + number)
    return module


@pytest.mark.parametrize("mask_center", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (40, 36), (33, 47), (20, 26)])
@torch.no_grad()
def test_quick_varnet_equals_stock(size, mask_center):
    module, inputs = varnet(mask_center=mask_center), slices(*size)
    quick, params = module.quick(), dict(module.named_parameters())
    sample = quick.prepare(*inputs)
    stock = module(*inputs)
    ours = quick(params, sample, quick.maps(params, sample))
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5 * float(stock.max()))


@pytest.mark.parametrize(("channels", "last"), [(18, True), (20, True), (16, False), (24, False), (6, False)])
@torch.no_grad()
def test_networks_lie_channels_last_where_that_is_faster_and_are_the_same(channels, last):
    module, inputs = varnet(channels=channels, cascades=1), slices(33, 47)
    quick = module.quick()
    params = quick.ready(dict(module.named_parameters()))
    weight = params["net.cascades.0.model.unet.conv.layers.4.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
    assert params["net.sens_net.norm_unet.unet.conv.layers.4.weight"].is_contiguous()
    sample, stock = quick.prepare(*inputs), module(*inputs)
    ours = quick(params, sample, quick.maps(params, sample))
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5 * float(stock.max()))


@torch.no_grad()
def test_kspace_outside_the_mask_is_kept_as_stock_keeps_it():
    module = varnet()
    _, mask, acs = slices(32, 32)
    full = torch.randn(3, 3, 32, 32, 2, generator=torch.Generator().manual_seed(5))
    quick, params = module.quick(), dict(module.named_parameters())
    sample = quick.prepare(full, mask, acs)
    torch.testing.assert_close(
        quick(params, sample, quick.maps(params, sample)), module(full, mask, acs), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("channels", "pools"), [(4, 2), (4, 3), (18, 3)])
@torch.no_grad()
def test_quick_unet_equals_stock_also_at_sizes_that_do_not_halve(channels, pools):
    module = UnetSizes(channels=channels, pools=pools).reconstructor().eval()
    image, mean, std = torch.randn(2, 45, 38), torch.rand(2), torch.rand(2) + 0.5
    quick = module.quick()
    ours = quick(quick.ready(dict(module.named_parameters())), quick.prepare(image, mean, std), None)
    torch.testing.assert_close(ours, module(image, mean, std), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_maps_depend_on_the_parameters_named_and_the_images_on_the_others():
    module, inputs = varnet(), slices(32, 32)
    quick, params = module.quick(), dict(module.named_parameters())
    before = model_hash(module)
    sample = quick.prepare(*inputs)
    maps = quick.maps(params, sample)
    outside = {n: v * (1 if n.startswith(quick.map_params) else 0.9) for n, v in params.items()}
    inside = {n: v * (0.9 if n.startswith(quick.map_params) else 1) for n, v in params.items()}
    image = quick(params, sample, maps)
    # equal values at other addresses: a CPU's convolutions may round them otherwise
    torch.testing.assert_close(quick.maps(outside, sample), maps, rtol=1e-4, atol=1e-5)
    assert (quick.maps(inside, sample) - maps).abs().max() > 1e-3
    torch.testing.assert_close(quick(inside, sample, maps), image, rtol=1e-4, atol=1e-5 * float(image.max()))
    assert (quick(outside, sample, maps) - image).abs().max() > 1e-3 * image.max()
    assert model_hash(module) == before


@torch.no_grad()
def test_bfloat16_is_the_same_image_to_its_own_rounding():
    module, inputs = varnet(), slices(32, 32)
    params = dict(module.named_parameters())
    images = []
    for dtype in (torch.float32, torch.bfloat16):
        quick = module.quick(dtype)
        sample, ready = quick.prepare(*inputs), quick.ready(params)
        images.append(quick(ready, sample, quick.maps(ready, sample)))
    assert images[1].dtype == torch.float32
    assert (images[0] - images[1]).abs().max() < 0.03 * images[0].max()


@pytest.mark.parametrize("clean", [False, True])
def test_a_prepared_target_gives_the_same_measures(clean):
    generator = torch.Generator().manual_seed(0)
    image, other = torch.rand(2, 3, 30, 28, generator=generator)
    target = {"image": image, "max": torch.tensor([1.0, 1.7, 3.2])}
    target |= {"clean": other, "clean_max": torch.tensor([1.1, 1.5, 2.0])} if clean else {}
    output = image + 0.1 * torch.randn(3, 30, 28, generator=generator)
    output = torch.nn.functional.pad(output, (2, 2, 1, 1))
    plain, prepared = image_measures(output, target), image_measures(output, image_measures.prepare(target))
    assert list(plain) == list(prepared)
    for name, values in plain.items():
        torch.testing.assert_close(prepared[name], values, rtol=1e-6, atol=1e-6)
