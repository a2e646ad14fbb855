"""Anatomies: tissue shares sum to one at most, bodies are the same at every size, contrasts ordered as physics says."""

import numpy as np
import pytest

from ssdtune.mri.phantom.anatomy import CONTRASTS, FAMILIES, draw_subject
from ssdtune.mri.phantom.shapes import Grid, SmoothField, blend, ellipse, segment
from ssdtune.mri.phantom.tissues import SEQUENCES, TISSUES, Sequence, Tissue, spin_echo

SIZES = [(32, 32), (48, 32), (32, 64), (33, 47)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("anatomy", FAMILIES)
def test_tissue_shares_are_shares(anatomy, size):
    subject = draw_subject(anatomy, size, 2, 0, "a")
    total = sum(subject.maps.values())
    assert total.shape == (2, *size)
    assert all(share.min() >= 0 for share in subject.maps.values())
    assert total.max() <= 1 + 1e-5
    # air around it, body in the middle, whatever the shape of the field of view
    assert total[:, 0].max() == total[:, -1].max() == total[:, :, 0].max() == total[:, :, -1].max() == 0
    np.testing.assert_allclose(total[:, size[0] // 2, size[1] // 2], 1, atol=1e-5)
    assert subject.maps.keys() <= TISSUES.keys()


@pytest.mark.parametrize("anatomy", FAMILIES)
def test_a_subject_is_the_same_body_at_every_size_and_contrast(anatomy):
    small, large = (draw_subject(anatomy, (n, n), 1, 3, "same") for n in (32, 128))
    for tissue, share in large.maps.items():
        np.testing.assert_allclose(share.reshape(1, 32, 4, 32, 4).mean((2, 4)), small.maps[tissue], atol=1e-5)
    other = draw_subject(anatomy, (32, 32), 1, 3, "other")
    assert not np.allclose(other.image("t1"), small.image("t1"), atol=0.05)
    again = draw_subject(anatomy, (32, 32), 1, 3, "same")
    np.testing.assert_allclose(again.image("pd"), small.image("pd"), atol=1e-6)


@pytest.mark.parametrize("anatomy", FAMILIES)
def test_neighbouring_slices_resemble_each_other(anatomy):
    image = draw_subject(anatomy, (64, 64), 6, 0, "z").image("pd")
    step = [np.linalg.norm(image[i + 1] - image[i]) for i in range(5)]
    assert max(step) < 0.5 * np.linalg.norm(image[0])
    assert min(step) > 0
    assert np.linalg.norm(image[5] - image[0]) > np.mean(step)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("anatomy", FAMILIES)
def test_images_are_finite_uneven_within_a_tissue_and_dark_in_air(anatomy, contrast):
    subject = draw_subject(anatomy, (64, 64), 1, 1, "t")
    image = subject.image(contrast)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    assert image.min() == 0
    tissue = "white_matter" if anatomy == "brain" else "muscle"
    pure = image[subject.maps[tissue] > 0.999]
    assert pure.size > 10
    assert 0.003 < pure.std() / pure.mean() < 0.3


def test_contrasts_order_tissues_as_they_do_on_a_scanner():
    def signal(tissue, contrast):
        return spin_echo(TISSUES[tissue], SEQUENCES[contrast])

    assert signal("fat", "t1") > signal("white_matter", "t1") > signal("grey_matter", "t1") > signal("csf", "t1")
    assert signal("csf", "t2") > signal("grey_matter", "t2") > signal("white_matter", "t2") > signal("muscle", "t2")
    assert signal("grey_matter", "pd") > signal("white_matter", "pd")
    assert signal("fluid", "pdfs") > signal("cartilage", "pdfs") > signal("marrow", "pdfs")
    assert all(signal("bone", contrast) < 1e-6 for contrast in CONTRASTS)


def test_spin_echo_limits():
    assert spin_echo(Tissue(t1=100, t2=50, pd=0.7), Sequence(tr=1e9, te=0)) == pytest.approx(0.7)
    assert spin_echo(Tissue(t1=100, t2=50, pd=1), Sequence(tr=100, te=50)) == pytest.approx(
        (1 - np.exp(-1)) * np.exp(-1)
    )
    assert spin_echo(Tissue(t1=100, t2=50, pd=1, fat=1), Sequence(tr=100, te=0, fat_saturation=1)) == 0


def test_families_differ_in_kind():
    brain, knee = (draw_subject(anatomy, (48, 48), 1, 0, "k") for anatomy in ("brain", "knee"))
    assert "grey_matter" in brain.maps
    assert "cartilage" in knee.maps
    assert not {"cartilage", "muscle"} & brain.maps.keys()
    assert knee.maps["marrow"].sum() > 5 * brain.maps["marrow"].sum()


def test_a_smooth_field_is_one_function_of_space_with_unit_variance():
    field = SmoothField(np.random.default_rng(0), wavelength=40, terms=64)
    wide = field(Grid.covering((400, 400), (4000, 4000), 5.0))
    assert abs(wide.mean()) < 0.1
    fine = field(Grid.covering((65, 65), (65, 65), 5.0))
    coarse = field(Grid.covering((13, 13), (65, 65), 5.0))
    np.testing.assert_allclose(fine.reshape(13, 5, 13, 5).mean((1, 3)), coarse, atol=0.02)
    assert 0.5 < fine.std() < 2


def test_distances_are_exact_where_they_are_known():
    y, x = np.meshgrid(np.linspace(-20, 20, 41), np.linspace(-20, 20, 41), indexing="ij")
    radius = np.hypot(x - 2, y)
    circle = ellipse(x, y, (2, 0), (9, 9), 0.3)
    np.testing.assert_allclose(circle[radius > 1], radius[radius > 1] - 9, atol=1e-4)
    np.testing.assert_allclose(segment(x, y, (-5, 0), (5, 0))[:, 20], np.abs(y[:, 20]), atol=1e-9)
    np.testing.assert_allclose(blend(circle, circle + 30, 2), circle, atol=1e-4)
    assert (ellipse(x, y, (0, 0), (0, 3)) > 100).all()
