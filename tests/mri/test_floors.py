"""The floors that need no oracle."""

import fastmri
import pytest
import torch
from torch.utils.data import default_collate

from ssdtune.mri.floors import clean_similarity, zero_filled, zero_filled_similarity
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.quality import image_measures
from ssdtune.studyfile import MaskSection

MASK = MaskSection(acceleration=4, center_fraction=0.1)


@pytest.fixture
def path(tmp_path, fastmri_file):
    return fastmri_file(tmp_path / "a.h5", slices=3, clean=True)


def test_clean_similarity_is_the_ssim_of_the_two_targets(path):
    slices = open_slices([path], MASK, "varnet")
    for value, (_, target) in zip(clean_similarity(slices), slices, strict=True):
        one = {"image": target["image"][None], "max": target["max"][None]}
        assert value == pytest.approx(image_measures(target["clean"][None], one)["ssim"].item(), abs=1e-6)
        assert 0 < value < 1


def test_zero_filled_is_the_root_sum_of_squares(path):
    inputs, _ = open_slices([path], MASK, "varnet")[0]
    image = zero_filled(inputs)
    assert torch.allclose(image, fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(inputs[0]))))
    batch = default_collate([inputs, inputs])
    torch.testing.assert_close(zero_filled(tuple(batch))[1], image, rtol=1e-4, atol=1e-5 * float(image.max()))


def test_both_architectures_have_the_same_zero_filled_image(path):
    varnet, unet = (open_slices([path], MASK, name) for name in ("varnet", "unet"))
    inputs, scale = unet[0][0], varnet[0][1]["max"]
    clamped = inputs[0].abs() == 6
    difference = (zero_filled(inputs) - zero_filled(varnet[0][0])).abs() / scale
    assert difference[~clamped].max() < 1e-5


def test_zero_filled_similarity_of_full_sampling_is_one(path, tmp_path, fastmri_file):
    full = MaskSection(kind="equispaced", acceleration=1)
    clean = fastmri_file(tmp_path / "b.h5", slices=3)
    assert zero_filled_similarity(open_slices([clean], full, "varnet")) == pytest.approx([1, 1, 1], abs=1e-5)
    assert (zero_filled_similarity(open_slices([path], MASK, "varnet")) < 0.95).all()
