"""Simulation: the transform is fastMRI's and unitary, coil maps cover the field, files are fastMRI's, each its own."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.kspace.check import check_file
from ssdtune.mri.kspace.fourier import fft2c, fit, ifft2c, root_sum_of_squares
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.phantom.coils import coil_maps
from ssdtune.mri.phantom.simulate import simulate_folder, simulate_images, simulate_volume
from ssdtune.mri.seeds import named_rng

QUICK = {"size": 32, "slices": 2, "coils": 2}


def complex_noise(shape, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(2, 17), st.integers(2, 17))
def test_transform_is_unitary_and_fastmris(coils, h, w):
    import fastmri

    x, y = complex_noise((coils, h, w), 1), complex_noise((coils, h, w), 2)
    # <F x, y> = <x, F* y>, and F* = F^-1
    assert np.vdot(fft2c(x), y) == pytest.approx(np.vdot(x, ifft2c(y)), rel=1e-3, abs=1e-3)
    np.testing.assert_allclose(ifft2c(fft2c(x)), x, atol=1e-5)
    theirs = torch.view_as_complex(fastmri.fft2c(torch.view_as_real(torch.from_numpy(x))))
    np.testing.assert_allclose(fft2c(x), theirs.numpy(), atol=1e-5)
    assert fft2c(x).dtype == np.complex64


@pytest.mark.parametrize("size", [(32, 32), (48, 30), (20, 64), (96, 80)])
@pytest.mark.parametrize("coils", [1, 2, 5, 16])
def test_coil_maps_have_unit_root_sum_of_squares_and_are_smooth(coils, size):
    maps = coil_maps(coils, size, np.array([0.0, 0.1]), np.random.default_rng(coils))
    assert maps.shape == (2, coils, *size)
    assert maps.dtype == np.complex64
    np.testing.assert_allclose(np.sqrt((np.abs(maps) ** 2).sum(1)), 1, atol=1e-4)
    steps = [np.abs(np.diff(maps, axis=axis)).max() for axis in (-2, -1)]
    assert max(steps) < 12 / min(size)
    if coils > 1:  # each sees a place of its own
        places = [np.unravel_index(np.abs(one).argmax(), size) for one in maps[0]]
        assert len(set(places)) > coils // 2


@pytest.mark.parametrize("anatomy", ["brain", "knee"])
@pytest.mark.parametrize("size", [32, (48, 32), (32, 40)])
@pytest.mark.parametrize("coils", [1, 4])
def test_without_noise_the_target_is_the_anatomy(anatomy, size, coils):
    volume = simulate_volume(anatomy, "pd", size=size, slices=2, coils=coils, noise=0)
    sides = (size, size) if isinstance(size, int) else size
    assert volume.kspace.shape == (2, coils, *sides)
    assert volume.kspace.dtype == np.complex64
    assert volume.target.dtype == np.float32
    assert volume.target.max() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(root_sum_of_squares(volume.kspace), volume.target, atol=1e-5)
    # Parseval: coil maps have unit root sum of squares, the transform is unitary
    assert np.linalg.norm(volume.kspace) == pytest.approx(np.linalg.norm(volume.target), rel=1e-4)


def test_noise_has_the_given_standard_deviation():
    clean, noisy = (simulate_volume("brain", "t2", size=48, coils=4, noise=noise) for noise in (0, 0.05))
    difference = noisy.kspace - clean.kspace
    assert difference.real.std() == pytest.approx(0.05, rel=0.03)
    assert difference.imag.std() == pytest.approx(0.05, rel=0.03)


def test_object_phase_is_there_and_smooth():
    image = ifft2c(simulate_volume("brain", "pd", size=48, slices=1, coils=1, noise=0).kspace)[0, 0]
    phase = np.angle(image[1:, 1:] * image[:-1, :-1].conj())[np.abs(image[1:, 1:]) > 0.2]
    assert 0 < np.abs(phase).mean() < 0.6


def same_kspace(one, other):
    """Equal to the rounding of a float32 Fourier transform, far below any noise."""
    np.testing.assert_allclose(one, other, atol=1e-6 * np.abs(one).max())


def test_a_volume_depends_on_seed_and_subject_only():
    first = simulate_volume("knee", "t1", **QUICK, seed=4, subject=7)
    simulate_volume("brain", "t2", **QUICK)
    again = simulate_volume("knee", "t1", **QUICK, seed=4, subject=7)
    same_kspace(first.kspace, again.kspace)
    for other in ({"seed": 5, "subject": 7}, {"seed": 4, "subject": 8}):
        assert not np.allclose(first.target, simulate_volume("knee", "t1", **QUICK, **other).target, atol=0.1)
    assert named_rng(0, "a", "b").random() != named_rng(0, "ab").random()


def test_files_do_not_depend_on_how_many_there_are(tmp_path):
    many = simulate_folder(tmp_path / "many", subjects=3, **QUICK)
    (one,) = simulate_folder(tmp_path / "one", subjects=1, first=2, **QUICK)
    assert many[2].name == one.name == "brain_t1_0002.h5"
    with h5py.File(many[2]) as a, h5py.File(one) as b:
        same_kspace(a["kspace"][()], b["kspace"][()])
        assert a.attrs.keys() == b.attrs.keys()
        for name, value in a.attrs.items():
            assert b.attrs[name] == (pytest.approx(value, rel=1e-5) if name in ("max", "norm") else value)


@pytest.mark.parametrize(("size", "coils"), [((32, 32), 1), ((40, 32), 3), ((32, 46), 16)])
def test_fastmri_reads_the_files_as_they_are(tmp_path, size, coils):
    from fastmri.data.mri_data import SliceDataset
    from fastmri.data.subsample import EquiSpacedMaskFunc
    from fastmri.data.transforms import VarNetDataTransform

    files = simulate_folder(tmp_path, anatomy="knee", contrast="pdfs", subjects=2, size=size, slices=3, coils=coils)
    dataset = SliceDataset(tmp_path, "multicoil", transform=VarNetDataTransform(EquiSpacedMaskFunc([0.2], [4])))
    assert len(dataset) == 6
    sample = dataset[0]
    assert tuple(sample.masked_kspace.shape) == (coils, *size, 2)
    assert sample.target.shape == size
    assert tuple(sample.crop_size) == size
    # every column is measured: the header's limits leave no padding, which fastMRI would set to zero
    kspace, _, target, attributes, _, _ = SliceDataset(tmp_path, "multicoil")[0]
    assert (attributes["padding_left"], attributes["padding_right"]) == (0, size[1])
    assert attributes["encoding_size"] == attributes["recon_size"] == (*size, 1)
    assert attributes["acquisition"] == "AXPDFS"
    assert attributes["patient_id"] == files[0].stem
    with h5py.File(files[0]) as file:
        assert attributes["max"] == pytest.approx(file["reconstruction_rss"][()].max())
        assert attributes["norm"] == pytest.approx(np.linalg.norm(file["reconstruction_rss"]))
    np.testing.assert_allclose(root_sum_of_squares(kspace), target, atol=1e-5)
    report = check_file(files[0])
    assert not report.faults
    assert not report.mismatches


def test_fit_keeps_what_a_smaller_scan_would_see():
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    image = np.exp(-4 * (x**2 + 2 * y**2))[None]
    smaller = fit(image, (32, 32))
    assert smaller.dtype == np.float32
    np.testing.assert_allclose(smaller.mean(), image.mean(), rtol=1e-3)
    np.testing.assert_allclose(fit(image, (64, 64)), image, atol=1e-5)
    # another aspect ratio: padded, not stretched, in either direction and for odd numbers
    for size in ((32, 64), (64, 32), (31, 47), (96, 80)):
        fitted = fit(image, size)
        assert fitted.shape == (1, *size)
        assert fitted.min() >= 0
        assert fitted.max() == pytest.approx(1, abs=0.05)


@pytest.fixture
def pictures(tmp_path):
    path = tmp_path / "pictures.h5"
    with h5py.File(path, "w") as file:
        file["images"] = simulate_volume("knee", "pd", size=(48, 40), slices=5, coils=1).target.astype(np.float16)
        file.attrs["contrast"] = "PD FSE"
    return path


def test_images_become_files_of_neighbouring_slices(tmp_path, pictures):
    files = simulate_images(tmp_path / "out", pictures, slices=2, coils=3, noise=0.001)
    assert [file.name for file in files] == ["pictures_0000.h5", "pictures_0002.h5"]
    with h5py.File(files[1]) as file, h5py.File(pictures) as source:
        assert file["kspace"].shape == (2, 3, 48, 40)
        assert file.attrs["acquisition"] == "AXPD_FSE"
        expected = source["images"][2:4].astype(np.float32)
        np.testing.assert_allclose(file["reconstruction_rss"], expected / expected.max(), atol=0.01)
    (alone,) = simulate_images(tmp_path / "alone", pictures, first=2, files=1, slices=2, coils=3, noise=0.001)
    with h5py.File(alone) as a, h5py.File(files[1]) as b:
        same_kspace(a["kspace"][()], b["kspace"][()])
    (resized,) = simulate_images(tmp_path / "small", pictures, files=1, size=32)
    assert check_file(resized).kspace_size == (32, 32)


def test_real_images_go_through(tmp_path, real_data):
    for name, size in (("brain_t1_axial", (64, 64)), ("knee_fse_axial", (64, 48))):
        files = simulate_images(tmp_path, real_data / "images" / f"{name}.h5", files=2, slices=2, first=4, size=size)
        for report in map(check_file, files):
            assert not report.faults
            assert not report.mismatches
            assert report.kspace_size == size


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "no such file"),
        (b"no HDF5", "not an HDF5 file"),
        ({}, "no dataset 'images'"),
        ({"images": np.ones((4, 4))}, r"f\(4, 4\)"),
        ({"images": np.ones((0, 32, 32))}, "images"),
        ({"images": np.ones((2, 32, 32), complex)}, "c"),
        ({"images": np.full((2, 32, 32), np.nan)}, "NaN"),
        ({"images": np.zeros((2, 32, 32))}, "empty"),
    ],
)
def test_images_that_cannot_be_used_are_refused(tmp_path, contents, message):
    path = tmp_path / "images.h5"
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents is not None:
        with h5py.File(path, "w") as file:
            file.update(contents)
    with pytest.raises(DataError, match=message):
        simulate_images(tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 8}, "size"),
        ({"size": (32, 4)}, "32x4"),
        ({"coils": 0}, "coils"),
        ({"slices": 0}, "slices"),
        ({"noise": -0.1}, "noise"),
        ({"noise": float("nan")}, "noise"),
        ({"subjects": 0}, "subjects"),
        ({"first": -1}, "from number"),
        ({"anatomy": "brian"}, "did you mean 'brain'"),
        ({"contrast": "dwi"}, "t1, t2"),
    ],
)
def test_wrong_numbers_are_refused_in_one_line(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        simulate_folder(tmp_path / "out", **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_more_images_than_there_are_is_refused(tmp_path, pictures):
    with pytest.raises(ConfigError, match="there are 5 images"):
        simulate_images(tmp_path, pictures, files=4, slices=2)


def test_existing_files_are_kept_unless_told_otherwise(tmp_path):
    simulate_folder(tmp_path, subjects=1, **QUICK)
    before = (tmp_path / "brain_t1_0000.h5").read_bytes()
    with pytest.raises(ConfigError, match="--overwrite"):
        simulate_folder(tmp_path, subjects=2, seed=1, **QUICK)
    assert (tmp_path / "brain_t1_0000.h5").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    simulate_folder(tmp_path, subjects=2, seed=1, overwrite=True, **QUICK)
    assert (tmp_path / "brain_t1_0000.h5").read_bytes() != before


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        simulate_folder(tmp_path / "file", subjects=1, **QUICK)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, small_disk):
    volume = simulate_volume(size=64, coils=4)
    with small_disk(100_000), pytest.raises(DataError, match=r"cannot write \(File too large\)") as caught:
        volume.write(tmp_path / "a.h5")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_write_volume_keeps_a_clean_target(tmp_path):
    volume = simulate_volume(**QUICK)
    write_volume(tmp_path / "a.h5", volume.kspace, 2 * volume.target, clean=volume.target)
    report = check_file(tmp_path / "a.h5")
    assert report.has_clean
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["max"] == pytest.approx(2 * file.attrs["max_clean"])
