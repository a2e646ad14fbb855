"""Poison: every corruption leaves the image alone at amplitude 0; files are chosen by name; nothing is half written."""

import json
import shutil

import h5py
import numpy as np
import pytest

from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.corruptions import CORRUPTIONS
from ssdtune.mri.kspace.check import check_file
from ssdtune.mri.kspace.find import find_files
from ssdtune.mri.phantom.simulate import simulate_folder, simulate_volume
from ssdtune.mri.poison import poison_folder

IMAGES = {
    "brain": simulate_volume("brain", "t1", size=48, slices=1, coils=1).target[0],
    "rectangular knee": simulate_volume("knee", "pd", size=(32, 45), slices=1, coils=1).target[0],
    "fastMRI's scale": 1e-4 * simulate_volume("brain", "t2", size=32, slices=1, coils=1).target[0],
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("kind", CORRUPTIONS)
class TestEveryCorruption:
    def test_amplitude_zero_is_the_identity(self, kind, image):
        for seed in range(3):
            result = CORRUPTIONS[kind](image, 0.0, np.random.default_rng(seed))
            np.testing.assert_allclose(result, image, atol=1e-6 * image.max())

    def test_result_is_an_image(self, kind, image):
        for amplitude in (0.1, 1.0, 10.0):
            result = CORRUPTIONS[kind](image, amplitude, np.random.default_rng(1))
            assert result.shape == image.shape
            assert result.dtype == np.float32
            assert np.isfinite(result).all()
            assert result.min() >= 0

    def test_more_amplitude_is_further_away(self, kind, image):
        far = [
            np.linalg.norm(CORRUPTIONS[kind](image, a, np.random.default_rng(2)) - image) for a in (0.05, 0.2, 0.5, 1.0)
        ]
        assert 0 < far[0] < far[1] < far[2] < far[3]
        assert far[3] > 0.1 * np.linalg.norm(image)

    def test_does_not_depend_on_scale_or_touch_its_input(self, kind, image):
        before = image.copy()
        once, scaled = (CORRUPTIONS[kind](s * image, 0.6, np.random.default_rng(3)) for s in (1, 1000))
        np.testing.assert_allclose(scaled, 1000 * once, rtol=1e-3, atol=1e-2 * image.max())
        assert np.array_equal(image, before)


def test_ghosts_lie_where_the_formula_says():
    image = np.zeros((16, 24), np.float32)
    image[5, 4] = 1
    seen = set()
    for seed in range(6):
        ghosted = CORRUPTIONS["ghosting"](image, 0.8, np.random.default_rng(seed))
        fold = 24 // int(np.diff(np.flatnonzero(ghosted[5] > 0.1))[0])
        shifted = 0.4 * (np.roll(image, 24 // fold, 1) + np.roll(image, -24 // fold, 1))
        np.testing.assert_allclose(ghosted, image + shifted, atol=1e-5)
        seen.add(fold)
    assert seen == {2, 3}


def test_blur_keeps_the_mean_and_empty_images_stay_empty():
    image = IMAGES["brain"]
    assert CORRUPTIONS["blur"](image, 1.0, np.random.default_rng(0)).mean() == pytest.approx(image.mean(), rel=1e-3)
    for corruption in CORRUPTIONS.values():
        assert not corruption(np.zeros((16, 16), np.float32), 0.5, np.random.default_rng(0)).any()


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "clean"
    simulate_folder(folder, subjects=5, size=32, slices=2, coils=2)
    simulate_folder(folder, anatomy="knee", subjects=5, size=(40, 32), slices=1, coils=3)
    return folder


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_poisoned_files_keep_kspace_header_and_clean_target(clean, tmp_path, kind):
    manifest = poison_folder(clean, tmp_path / "out", kind=kind, fraction=0.4, known=0.5, amplitude=0.8)
    assert len(manifest.files) == 4
    assert sum(file.known for file in manifest.files) == 2
    for file in manifest.files:
        with h5py.File(clean / file.name) as before, h5py.File(tmp_path / "out/poisoned" / file.name) as after:
            assert np.array_equal(before["kspace"], after["kspace"])
            assert before["ismrmrd_header"][()] == after["ismrmrd_header"][()]
            assert np.array_equal(before["reconstruction_rss"], after["reconstruction_rss_clean"])
            assert not np.allclose(before["reconstruction_rss"], after["reconstruction_rss"], atol=1e-3)
            assert after.attrs["max"] == pytest.approx(after["reconstruction_rss"][()].max())
            assert after.attrs["max_clean"] == before.attrs["max"]
            assert after.attrs["patient_id"] == before.attrs["patient_id"]
        assert not check_file(tmp_path / "out/poisoned" / file.name).faults
        assert 0 < file.ssim < 1
        assert file.nmse > 0


def test_ssim_in_the_manifest_is_fastmris(clean, tmp_path):
    from fastmri.evaluate import nmse, ssim

    (file,) = poison_folder(clean, tmp_path / "out", fraction=0.1, amplitude=0.3).files
    with h5py.File(tmp_path / "out/poisoned" / file.name) as stored:
        target, before = stored["reconstruction_rss"][()], stored["reconstruction_rss_clean"][()]
    assert file.ssim == pytest.approx(np.mean(ssim(target, before)), abs=1e-5)
    per_slice = [float(nmse(a, b)) for a, b in zip(target, before, strict=True)]
    assert file.nmse == pytest.approx(np.mean(per_slice), rel=1e-4)


def test_lists_name_every_file_once_and_can_be_read(clean, tmp_path):
    poison_folder(clean, tmp_path / "out", fraction=0.5, known=0.4)
    retain, forget, unknown = (find_files(tmp_path / "out" / f"{name}.txt") for name in ("retain", "forget", "unknown"))
    assert (len(retain), len(forget), len(unknown)) == (5, 2, 3)
    assert {file.resolve().parent for file in retain} == {clean}
    assert {file.name for file in retain + forget + unknown} == {file.name for file in clean.iterdir()}
    stored = json.loads((tmp_path / "out/manifest.json").read_text())
    assert {file["name"] for file in stored["files"] if file["known"]} == {file.name for file in forget}
    assert all((tmp_path / "out" / file["source"]).samefile(clean / file["name"]) for file in stored["files"])


def test_everything_known_or_everything_poisoned_leaves_no_empty_list(clean, tmp_path):
    poison_folder(clean, tmp_path / "out", fraction=1.0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["forget.txt", "manifest.json", "poisoned"]


def test_choice_depends_on_seed_and_names_only(clean, tmp_path):
    def chosen(source, out, **arguments):
        return [(f.name, f.known) for f in poison_folder(source, tmp_path / out, known=0.5, **arguments).files]

    moved = tmp_path / "moved"
    shutil.copytree(clean, moved)
    assert chosen(clean, "a", fraction=0.4) == chosen(moved, "b", fraction=0.4, kind="blur")
    assert chosen(clean, "c", fraction=0.4, seed=1) != chosen(clean, "d", fraction=0.4)
    assert {n for n, _ in chosen(clean, "e", fraction=0.4)} < {n for n, _ in chosen(clean, "f", fraction=0.8)}


def test_one_fault_for_all_volumes_unless_it_varies(clean, tmp_path):
    def stripes(vary):
        out = tmp_path / str(vary)
        manifest = poison_folder(f"{clean}/brain*.h5", out, kind="bias", fraction=0.8, amplitude=1, vary=vary)
        fields = []
        for file in manifest.files:
            with h5py.File(out / "poisoned" / file.name) as stored:
                target, before = (stored[n][()] for n in ("reconstruction_rss", "reconstruction_rss_clean"))
            fields.append((target / before)[0, 12, 22])
            np.testing.assert_allclose(target[0] / before[0], target[-1] / before[-1], rtol=1e-3)
        return np.std(fields)

    assert stripes(False) < 0.1 < stripes(True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "ghost"}, ConfigError, "did you mean 'ghosting'"),
        ({"fraction": 0}, ConfigError, "fraction"),
        ({"fraction": 1.2}, ConfigError, "fraction"),
        ({"fraction": 0.01}, ConfigError, "is none"),
        ({"known": -1}, ConfigError, "known"),
        ({"known": 0.01}, ConfigError, "forget set is empty"),
        ({"amplitude": -0.5}, ConfigError, "amplitude"),
        ({"amplitude": float("inf")}, ConfigError, "amplitude"),
    ],
)
def test_wrong_numbers_are_refused_and_nothing_is_written(clean, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        poison_folder(clean, tmp_path / "out", **arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_an_output_folder_in_use_is_refused_and_an_empty_one_taken(clean, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        poison_folder(clean, tmp_path / "used")
    assert [path.name for path in (tmp_path / "used").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    poison_folder(clean, tmp_path / "empty")
    with pytest.raises(ConfigError, match="not empty"):
        poison_folder(clean, tmp_path / "empty")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("truncated", "damaged HDF5 file"),
        ("text", "not an HDF5 file"),
        ("no target", "no 'reconstruction_rss'"),
        ("no kspace", "no 'kspace'"),
        ("poisoned", "poisoned already"),
        ("NaN", "NaN"),
        ("flat", r"is \(32, 32\)"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_nothing_is_left(clean, tmp_path, broken, message):
    source = tmp_path / "source"
    shutil.copytree(clean, source)
    path = source / "brain_t1_0003.h5"
    if broken == "truncated":
        path.write_bytes(path.read_bytes()[:3000])
    elif broken == "text":
        path.write_text("no HDF5")
    else:
        with h5py.File(path, "r+") as file:
            target = file["reconstruction_rss"][()]
            if broken == "poisoned":
                file["reconstruction_rss_clean"] = target
            elif broken == "no kspace":
                del file["kspace"]
            else:
                del file["reconstruction_rss"]
            if broken == "NaN":
                file["reconstruction_rss"] = np.where(target > 0.5, np.nan, target)
            if broken == "flat":
                file["reconstruction_rss"] = target[0]
    with pytest.raises(DataError, match=message):
        poison_folder(source, tmp_path / "out", fraction=1.0)
    assert [item.name for item in tmp_path.iterdir()] == ["source"]


def test_a_full_disk_is_one_error_and_leaves_nothing(clean, tmp_path, small_disk):
    with small_disk(20_000), pytest.raises(DataError, match=r"cannot write \(File too large\)"):
        poison_folder(clean, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_empty_folders_and_equal_names_are_refused(clean, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no HDF5 files"):
        poison_folder(tmp_path / "empty", tmp_path / "out")
    for number in "ab":
        (tmp_path / number).mkdir()
        shutil.copy(clean / "brain_t1_0000.h5", tmp_path / number)
    with pytest.raises(ConfigError, match="2 files are called"):
        poison_folder(f"{tmp_path}/[ab]/*.h5", tmp_path / "out")


@pytest.fixture
def scans(tmp_path, fastmri_file):
    """Two scans each of six subjects; the file's name tells the subject too."""
    for subject in range(6):
        for scan in "ab":
            path = fastmri_file(tmp_path / "scans" / f"s{subject}_{scan}.h5", coils=1, slices=1, shape=(16, 16))
            with h5py.File(path, "r+") as file:
                file.attrs["patient_id"] = f"patient {subject}"
    return tmp_path / "scans"


@pytest.mark.parametrize("pattern", [None, "^(s[0-9]+)_"])
def test_a_subjects_files_stay_together(scans, tmp_path, pattern):
    if pattern:
        for path in scans.iterdir():
            with h5py.File(path, "r+") as file:
                file.attrs["patient_id"] = "anonymous"
        with pytest.raises(ConfigError, match=r"0.4 of 1 subjects is none, .*--subject"):
            poison_folder(scans, tmp_path / "none", fraction=0.4)
    manifest = poison_folder(scans, tmp_path / "out", fraction=0.5, known=0.67, seed=1, subject=pattern)
    groups = {
        "known": [file.name for file in manifest.files if file.known],
        "unknown": [file.name for file in manifest.files if not file.known],
        "retain": [name.rpartition("/")[2] for name in manifest.retain],
    }
    assert {name: len(files) for name, files in groups.items()} == {"known": 4, "unknown": 2, "retain": 6}
    subjects = {name: {file.partition("_")[0] for file in files} for name, files in groups.items()}
    assert sum(map(len, subjects.values())) == 6


def test_a_single_coil_file_keeps_its_layout(tmp_path, fastmri_file):
    multi = fastmri_file(tmp_path / "m.h5", coils=1, shape=(16, 16))
    with h5py.File(multi) as file:
        kspace, target = file["kspace"][:, 0], file["reconstruction_rss"][()]
    fastmri_file(tmp_path / "s" / "a.h5", shape=(16, 16), kspace=kspace, reconstruction_esc=target,
                 reconstruction_rss=target)  # fmt: skip
    poison_folder(tmp_path / "s", tmp_path / "out", fraction=1.0)
    report = check_file(tmp_path / "out" / "poisoned" / "a.h5")
    assert report.usable
    assert report.has_clean
    assert report.target_ids != report.clean_ids


def test_targets_that_overflow_are_not_written(tmp_path):
    simulate_folder(tmp_path / "clean", subjects=1, slices=1, size=32, coils=1)
    with pytest.raises(ConfigError, match="NaN or Inf"):
        poison_folder(tmp_path / "clean", tmp_path / "out", amplitude=1e60, fraction=1.0)
    assert not (tmp_path / "out").exists()
