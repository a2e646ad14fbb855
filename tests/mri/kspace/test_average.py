"""Repetitions become one file: the mean is the target, the first one's k-space stays, and what is none is refused."""

import json
import re

import h5py
import numpy as np
import pytest

from ssdtune.cli import main
from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.kspace.average import average_folder
from ssdtune.mri.kspace.check import check_file
from ssdtune.mri.kspace.fourier import root_sum_of_squares
from ssdtune.mri.kspace.write import write_volume
from ssdtune.mri.phantom.simulate import simulate_volume
from ssdtune.mri.seeds import named_rng


def write_repetitions(folder, scan="2022061003_T1", count=3, *, noise=0.05, size=32, slices=2):
    """``count`` repetitions under M4Raw's names, the same body under other noise; returns their k-space."""
    clean = simulate_volume(size=size, slices=slices, coils=2, noise=0).kspace
    folder.mkdir(exist_ok=True)
    found = []
    for number in range(1, count + 1):
        rng = named_rng(number, scan)
        kspace = clean + noise * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))
        write_volume(folder / f"{scan}{number:02}.h5", kspace, root_sum_of_squares(kspace))
        found.append(kspace.astype(np.complex64))
    return np.stack(found)


@pytest.mark.parametrize("by", ["image", "kspace"])
def test_the_mean_is_the_target_and_the_first_kspace_stays(tmp_path, by):
    kspace = write_repetitions(tmp_path / "raw")
    (made,) = average_folder(tmp_path / "raw", tmp_path / "out", by=by)
    wanted = root_sum_of_squares(kspace).mean(0) if by == "image" else root_sum_of_squares(kspace.mean(0))
    with h5py.File(tmp_path / "out/2022061003_T1.h5") as file:
        target = file["reconstruction_rss"][()]
        np.testing.assert_allclose(target, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(file["kspace"][()], kspace[0])
        assert file.attrs["max"] == pytest.approx(target.max())
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(target))
        assert file.attrs["patient_id"] == "2022061003"  # the files state their own names, which is no person's
        assert list(file.attrs["averaged_from"]) == [f"2022061003_T1{number:02}.h5" for number in (1, 2, 3)]
        assert file.attrs["averaged_by"] == by
    single = root_sum_of_squares(kspace[0])
    assert made.nmse == pytest.approx(((single - wanted) ** 2).sum() / (wanted**2).sum(), rel=1e-4)
    assert check_file(made.path).usable


def test_a_mean_is_nearer_the_truth_and_that_of_kspace_has_the_lower_floor(tmp_path):
    write_repetitions(tmp_path / "raw", count=3, noise=0.1)
    truth = root_sum_of_squares(simulate_volume(size=32, slices=2, coils=2, noise=0).kspace)
    errors = {}
    for by in ("image", "kspace"):
        (made,) = average_folder(tmp_path / "raw", tmp_path / by, by=by)
        with h5py.File(made.path) as file, h5py.File(made.sources[0]) as first:
            errors[by] = np.square(file["reconstruction_rss"][()] - truth).sum()
            errors["one"] = np.square(first["reconstruction_rss"][()] - truth).sum()
    assert errors["kspace"] < errors["image"] < errors["one"]


def test_contrasts_stay_apart_and_repetitions_may_be_named_otherwise(tmp_path, capsys):
    for scan, count in (("s1_T1", 3), ("s1_FLAIR", 2)):
        write_repetitions(tmp_path / "raw", scan, count)
    main(["data", "average", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert [(row["file"], len(row["from"])) for row in printed["files"]] == [("s1_FLAIR.h5", 2), ("s1_T1.h5", 3)]
    (tmp_path / "other").mkdir()
    for number in (1, 2):
        moved = (tmp_path / f"raw/s1_T10{number}.h5").rename(tmp_path / f"other/rep{number}-brain.h5")
        with h5py.File(moved, "r+") as file:
            file.attrs["patient_id"] = "anne"
    pattern = r"^(?P<repetition>rep\d)-"
    (made,) = average_folder(tmp_path / "other", tmp_path / "again", pattern=pattern)
    assert [file.name for file in made.sources] == ["rep1-brain.h5", "rep2-brain.h5"]


def test_a_smaller_target_keeps_its_size(tmp_path):
    kspace = write_repetitions(tmp_path / "raw", count=2)
    for file in (tmp_path / "raw").iterdir():
        with h5py.File(file, "r+") as opened:
            cut = opened["reconstruction_rss"][:, 4:28, 4:28]
            del opened["reconstruction_rss"]
            opened["reconstruction_rss"] = cut
    (made,) = average_folder(tmp_path / "raw", tmp_path / "out")
    with h5py.File(made.path) as file:
        target = file["reconstruction_rss"][()]
    np.testing.assert_allclose(target, root_sum_of_squares(kspace).mean(0)[:, 4:28, 4:28], rtol=1e-5, atol=1e-6)


def _one_alone(raw):
    (raw / "2022061003_T102.h5").unlink()


def _other_size(raw):
    write_volume(raw / "2022061003_T102.h5", np.ones((2, 2, 16, 32)), np.ones((2, 16, 32)))


def _other_patients(raw):
    for number, patient in enumerate(("anne", "bob"), 1):
        with h5py.File(raw / f"2022061003_T10{number}.h5", "r+") as file:
            file.attrs["patient_id"] = patient


def _broken(raw):
    with h5py.File(raw / "2022061003_T102.h5", "r+") as file:
        file["kspace"][1, 0, 3, 3] = np.nan


def _undersampled(raw):
    with h5py.File(raw / "2022061003_T102.h5", "r+") as file:
        file["mask"] = np.ones(32)


def _poisoned(raw):
    with h5py.File(raw / "2022061003_T101.h5", "r+") as file:
        file["reconstruction_rss_clean"] = file["reconstruction_rss"][()]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_one_alone, "'2022061003_T1' has one repetition"),
        (_other_size, "shapes differ"),
        (_other_patients, "patients differ: anne in 2022061003_T101.h5, bob"),
        (_broken, "NaN or Inf in k-space, slice 1"),
        (_undersampled, "undersampled"),
        (_poisoned, "poisoned"),
    ],
)
def test_what_is_no_mean_is_refused_and_nothing_is_written(tmp_path, spoil, words):
    write_repetitions(tmp_path / "raw", count=2)
    spoil(tmp_path / "raw")
    with pytest.raises(DataError, match=re.escape(words)):
        average_folder(tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "is no pattern"), (r"\d", "no group 'repetition'"), (r"(?P<repetition>x)", "by '")]
)
def test_a_pattern_that_finds_nothing_is_refused(tmp_path, pattern, words):
    write_repetitions(tmp_path / "raw", count=2)
    with pytest.raises(ConfigError, match=re.escape(words)):
        average_folder(tmp_path / "raw", tmp_path / "out", pattern=pattern)


def test_fastmris_own_names_are_no_repetitions(tmp_path):
    write_repetitions(tmp_path / "raw", "file10000", 2)
    with pytest.raises(ConfigError, match="no repetition in the name"):
        average_folder(tmp_path / "raw", tmp_path / "out")
