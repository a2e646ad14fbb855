"""Quality measures against fastMRI's own, and the training loss under torch.func."""

import fastmri.evaluate
import numpy as np
import pytest
import torch
from fastmri import SSIMLoss
from fastmri.data.transforms import center_crop as fastmri_crop
from torch.func import grad, vmap

from ssdtune.mri.quality import L1_WEIGHT, center_crop, image_measures, ssim, training_loss


def images(batch=3, size=(40, 36), seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, *size, generator=generator) * torch.linspace(0.2, 1, size[1])
    output = image + 0.1 * torch.randn(batch, *size, generator=generator)
    # the data range is the volume's maximum, so it differs from the slice's own and from one slice to the next
    return scale * output, scale * image, scale * torch.tensor([1.0, 1.7, 3.2][:batch])


@pytest.mark.parametrize("scale", [1.0, 1e-4, 300.0])
def test_measures_equal_those_of_fastmri(scale):
    output, image, top = images(scale=scale)
    measures = image_measures(output, {"image": image, "max": top})
    assert next(iter(measures)) == "ssim"  # q; others may be added
    for index in range(len(image)):
        gt, pred, maxval = image[index, None].numpy(), output[index, None].numpy(), top[index].item()
        assert measures["ssim"][index] == pytest.approx(float(fastmri.evaluate.ssim(gt, pred, maxval)[0]), abs=1e-5)
        assert measures["psnr"][index] == pytest.approx(float(fastmri.evaluate.psnr(gt, pred, maxval)), abs=1e-5)
        assert measures["nmse"][index] == pytest.approx(float(fastmri.evaluate.nmse(gt, pred)), rel=1e-5)


def test_measures_of_a_real_slice_equal_those_of_fastmri(real_data):
    import h5py

    with h5py.File(real_data / "kspace" / "brain_t1_8coil_smallfov.h5") as file:
        image, top = torch.from_numpy(file["reconstruction_rss"][()]), torch.tensor([file.attrs["max"]])
    output = image.roll(1, -1) * 0.9
    measures = image_measures(output, {"image": image, "max": top})
    gt, pred, maxval = image.numpy(), output.numpy(), top.item()
    assert measures["ssim"].item() == pytest.approx(float(fastmri.evaluate.ssim(gt, pred, maxval)[0]), abs=1e-5)
    assert measures["psnr"].item() == pytest.approx(float(fastmri.evaluate.psnr(gt, pred, maxval)), abs=1e-5)
    assert measures["nmse"].item() == pytest.approx(float(fastmri.evaluate.nmse(gt, pred)), rel=1e-5)


def test_a_clean_target_is_measured_with_its_own_range():
    output, image, top = images()
    clean, clean_top = image * 0.8, top * 0.8
    measures = image_measures(output, {"image": image, "max": top, "clean": clean, "clean_max": clean_top})
    alone = image_measures(output, {"image": clean, "max": clean_top})
    assert [name for name in measures if name[:6] == "clean_"] == [f"clean_{name}" for name in alone]
    for name, value in alone.items():
        torch.testing.assert_close(measures[f"clean_{name}"], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(46, 40), (47, 36), (40, 43)])
def test_output_is_cropped_as_fastmri_crops(size):
    _, image, top = images()
    output = torch.rand(3, *size)
    assert torch.equal(center_crop(output, image), fastmri_crop(output, image.shape[-2:]))
    measures = image_measures(output, {"image": image, "max": top})
    expected = ssim(fastmri_crop(output, image.shape[-2:]), image, top).double()
    torch.testing.assert_close(measures["ssim"], expected, rtol=1e-5, atol=1e-6)


def test_perfect_output_has_unit_ssim_and_finite_psnr():
    _, image, top = images()
    measures = image_measures(image, {"image": image, "max": top})
    assert torch.allclose(measures["ssim"], torch.ones(3, dtype=torch.float64))
    assert torch.isfinite(measures["psnr"]).all()
    assert not measures["nmse"].any()


def test_ssim_does_not_depend_on_the_unit():
    output, image, top = images()
    assert torch.allclose(ssim(output * 1e-12, image * 1e-12, top * 1e-12), ssim(output, image, top), atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_output_shows(bad):
    output, image, top = images()
    output[1, 5, 5] = bad
    measures = image_measures(output, {"image": image, "max": top})
    for name in ("ssim", "nmse"):
        assert torch.isfinite(measures[name]).tolist() == [True, False, True]


def test_training_loss_is_one_minus_ssim_plus_l1():
    output, image, top = images()
    stock = SSIMLoss()(output[:, None], image[:, None], top) + L1_WEIGHT * (output - image).abs().mean()
    assert training_loss(output, {"image": image, "max": top}).item() == pytest.approx(stock.item(), abs=1e-6)


def test_per_sample_gradients_by_vmap_average_to_the_batch_gradient():
    output, image, top = images()
    target = {"image": image, "max": top}

    def loss(value, one):
        return training_loss(value[None], {name: item[None] for name, item in one.items()})

    each = vmap(grad(loss))(output, target)
    leaf = output.clone().requires_grad_()
    training_loss(leaf, target).backward()
    assert torch.allclose(each / len(output), leaf.grad, atol=1e-8)
    numeric = (
        loss(output[0] + 1e-2 * each[0], {"image": image[0], "max": top[0]})
        - loss(output[0], {"image": image[0], "max": top[0]})
    ) / 1e-2
    assert numeric.item() == pytest.approx(float(np.square(each[0].numpy()).sum()), rel=0.1, abs=1e-4)


def test_measures_of_volumes_equal_those_of_fastmri():
    """From their slices alone; the data range is the volume's maximum, as ``fastmri.evaluate`` takes it."""
    columns = {name: [] for name in ("ssim", "psnr", "nmse")}
    names, expected = [], []
    for volume, slices in (("b", 3), ("a", 5), ("one", 1)):
        output, image, _ = images(batch=slices, seed=slices) if slices <= 3 else images_of(slices)
        top = image.max()
        measures = image_measures(output, {"image": image, "max": top.expand(slices)})
        for name, column in columns.items():
            column += measures[name].tolist()
        names += [volume] * slices
        gt, pred = image.numpy(), output.numpy()
        expected.append([float(np.squeeze(each(gt, pred))) for each in FASTMRI])
    found = image_measures.by_volume({name: np.array(column) for name, column in columns.items()}, names)
    assert list(found) == ["ssim", "psnr", "nmse"]
    np.testing.assert_allclose(np.stack(list(found.values()), axis=1), expected, atol=1e-5, rtol=1e-6)


FASTMRI = (fastmri.evaluate.ssim, fastmri.evaluate.psnr, fastmri.evaluate.nmse)


def images_of(slices):
    generator = torch.Generator().manual_seed(slices)
    image = torch.rand(slices, 40, 36, generator=generator) * torch.linspace(0.1, 1, slices)[:, None, None]
    return image + 0.05 * torch.randn(slices, 40, 36, generator=generator), image, None


def test_a_perfect_volume_and_one_that_is_not_finite():
    columns = {"ssim": np.ones(3), "psnr": np.array([200.0, 200.0, np.nan]), "nmse": np.array([0.0, 0.0, np.nan])}
    found = image_measures.by_volume(columns, ["a", "a", "b"])
    assert found["nmse"][0] == 0 and found["psnr"][0] == pytest.approx(200)
    assert np.isnan([found["psnr"][1], found["nmse"][1]]).all()
