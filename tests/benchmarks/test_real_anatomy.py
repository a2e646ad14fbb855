"""Real anatomies: intervals over trained models, and real scans beside those that are made like them."""

import h5py
import numpy as np
import pytest
from scipy.stats import ttest_1samp

from benchmarks.real_anatomy.__main__ import interval, tables, with_interval
from benchmarks.real_anatomy.scans import NOISE, wrap, write_alike, write_middle
from ssdtune.mri.kspace.fourier import ifft2c


def test_intervals_are_student_s_and_of_one_value_there_is_none():
    values = [0.7, 0.8, 0.95]
    mean, low, high = interval(values)
    known = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((np.mean(values), known.low, known.high))
    assert dict(with_interval("s", values)) == {"s": mean, "s.lo": low, "s.hi": high}
    assert with_interval("parameters", [5.0, 5.0, 5.0]) == with_interval("parameters", [5.0]) == [("parameters", 5.0)]


def test_scans_alike_have_the_coils_and_the_noise_of_the_real_ones(tmp_path):
    images = tmp_path / "brain.h5"
    with h5py.File(images, "w") as file:
        file["images"] = np.random.default_rng(0).random((70, 40, 32)).astype(np.float32)
    write_alike(tmp_path / "alike", images, (32, 32))
    parts = sorted((tmp_path / "alike").iterdir())
    files = [sorted(part.glob("*.h5")) for part in parts]
    shapes = []
    for (path, *_), part in zip(files, parts, strict=True):
        with h5py.File(path) as file:
            shapes.append(file["kspace"].shape[1:])
            if part.name == "drawn0":  # its corners are empty
                corner = ifft2c(file["kspace"][()])[..., :4, :4].real
                assert corner.std() == pytest.approx(NOISE, rel=0.3)
    assert {tuple(shape) for _, *shape in shapes} == {(32, 32)}
    assert sorted(coils for coils, *_ in shapes) == [4] * 4 + [8] * 3
    assert sum(map(len, files[:4])) == 32 and sum(map(len, files[4:])) == 30


def test_the_middle_of_a_scan_is_the_same_scan_at_less_resolution(tmp_path, fastmri_file):
    source = tmp_path / "scan.h5"
    fastmri_file(source, slices=1, coils=2, shape=(64, 48), seed=0)
    write_middle(source, tmp_path / "middle.h5", (32, 24))
    with h5py.File(source) as whole, h5py.File(tmp_path / "middle.h5") as middle:
        assert np.array_equal(middle["kspace"][()], whole["kspace"][..., 16:48, 12:36])


def test_what_lies_beyond_the_field_of_view_comes_in_on_the_other_side(tmp_path, fastmri_file):
    path = tmp_path / "scan.h5"
    fastmri_file(path, slices=1, coils=2, shape=(32, 40), seed=0)
    with h5py.File(path) as file:
        before = ifft2c(file["kspace"][()])
    wrap(path, 32)
    with h5py.File(path) as file:
        after = ifft2c(file["kspace"][()])
    assert after.shape[-2:] == (32, 32)
    assert np.allclose(after[..., 4:28], before[..., 8:32], atol=1e-5 * abs(before).max())
    assert np.allclose(after[..., :4], before[..., 4:8] + before[..., 36:], atol=1e-5 * abs(before).max())
    assert np.allclose(after.sum(-1), before.sum(-1), atol=1e-4 * abs(before).max())


def test_a_table_shows_what_there_is():
    found = {"parameters": 9, "coils": 4, "height": 32, "width": 32, "default.score": 0.9}
    found |= {f"slices.{name}": 5 for name in ("trained_retain", "retain", "known", "unknown")}
    found["kspace.scan.zero_filled_ssim"] = 0.5
    lines = "\n".join(tables([found, {**found, "default.score": 0.8}]))
    assert "0.850 [" in lines and "| scan" in lines and "0.500" in lines
