"""Samples against what stock fastMRI makes of the same files, and their identity."""

import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from fastmri.data import SliceDataset
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import UnetDataTransform, VarNetDataTransform, batched_mask_center, center_crop_to_smallest
from fastmri.models.varnet import SensitivityModel

from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.kspace.find import find_files
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.kspace.taken import Taken
from ssdtune.studyfile import MaskSection
from ssdtune.task import batches, fingerprint, sample_ids

MASKS = {
    "equispaced": MaskSection(kind="equispaced", acceleration=4, center_fraction=0.1),
    "equispaced_fraction": MaskSection(kind="equispaced_fraction", acceleration=4, center_fraction=0.1),
    "random": MaskSection(kind="random", acceleration=3, center_fraction=0.1),
    "magic": MaskSection(kind="magic", acceleration=4, center_fraction=0.1),
    "magic_fraction": MaskSection(kind="magic_fraction", acceleration=4, center_fraction=0.1),
    "pairs": MaskSection(kind="random", acceleration=(2, 4), center_fraction=(0.2, 0.1)),
    # rounds to no centre line at all, so stock code infers the centre from the mask
    "no centre": MaskSection(kind="equispaced", acceleration=2, center_fraction=0.005),
}
SIZES = {
    "a": {"slices": 2, "coils": 4},
    "b": {"slices": 1, "coils": 2, "shape": (56, 47), "target_shape": (40, 40)},
    "c": {"slices": 3, "coils": 3, "shape": (48, 64), "target_shape": (48, 48), "padding": 7},
}


@pytest.fixture
def folder(tmp_path, fastmri_file):
    """Files of different sizes, coil counts and slice counts, one with unmeasured columns at its sides."""
    folder = tmp_path / "set"
    for seed, (name, sizes) in enumerate(SIZES.items(), 1):
        fastmri_file(folder / f"{name}.h5", seed=seed, **sizes)
    return folder


def stock(folder, transform):
    return SliceDataset(folder, "multicoil", transform)


def mask_function(mask):
    return create_mask_for_mask_type(mask.kind, mask.center_fractions, mask.accelerations)


@pytest.mark.parametrize("kind", MASKS)
def test_varnet_samples_are_those_of_stock_fastmri(kind, folder):
    mask = MASKS[kind]
    slices = open_slices(find_files(folder), mask, "varnet")
    stock_samples = stock(folder, VarNetDataTransform(mask_function(mask)))
    assert len(slices) == len(stock_samples) == 6
    for (inputs, target), sample in zip(slices, stock_samples, strict=True):
        masked_kspace, sampling, centre = inputs
        assert torch.equal(masked_kspace, sample.masked_kspace)
        assert torch.equal(sampling, sample.mask)
        assert torch.equal(target["image"], sample.target)
        assert target["max"] == torch.tensor(sample.max_value)
        assert sampling.dtype == centre.dtype == torch.bool
        # the k-space that stock VarNet makes its sensitivity maps from
        pad, count = SensitivityModel(1, 1).get_pad_and_num_low_freqs(sampling[None], sample.num_low_frequencies)
        assert torch.equal(masked_kspace * centre, batched_mask_center(masked_kspace[None], pad, pad + count)[0])


@pytest.mark.parametrize("kind", list(MASKS)[:6])
def test_unet_samples_are_those_of_stock_fastmri(kind, folder):
    mask = MASKS[kind]
    stock_samples = stock(folder, UnetDataTransform("multicoil", mask_function(mask)))
    for (inputs, target), sample in zip(open_slices(find_files(folder), mask, "unet"), stock_samples, strict=True):
        # two Fourier transforms need not round alike
        torch.testing.assert_close(inputs[0], sample.image, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(inputs[1], sample.mean, rtol=1e-5, atol=0)
        torch.testing.assert_close(inputs[2], sample.std, rtol=1e-5, atol=0)
        normalised = ((target["image"] - sample.mean) / (sample.std + 1e-11)).clamp(-6, 6)
        assert torch.allclose(normalised, sample.target, atol=1e-5)


def test_masks_follow_the_file_name_and_not_the_place(folder):
    mask = MASKS["random"]
    whole = open_slices(find_files(folder), mask, "varnet")
    alone = open_slices([folder / "c.h5"], mask, "varnet")
    assert torch.equal(whole[4][0][1], alone[1][0][1])
    assert torch.equal(whole[3][0][1], whole[4][0][1])
    before = alone[0][0][1]
    (folder / "c.h5").rename(folder / "d.h5")
    assert not torch.equal(open_slices([folder / "d.h5"], mask, "varnet")[0][0][1], before)


def test_each_epoch_of_a_training_has_masks_of_its_own_and_the_same_ones_again(folder):
    slices = open_slices(find_files(folder), MASKS["random"], "varnet")
    first, second, again = (slices.for_epoch(epoch) for epoch in (0, 1, 0))
    masks = [[inputs[1].flatten().tolist() for inputs, _ in each] for each in (slices, first, second, again)]
    assert masks[1] == masks[3] != masks[0]
    assert all(one != other for one, other in zip(masks[1], masks[2], strict=True))
    assert masks[0][3] == masks[0][4]  # one mask a volume, but
    assert masks[1][3] != masks[1][4]  # one a slice where it is trained on
    assert first[4][0][1].flatten().tolist() == masks[1][4]
    assert all(torch.equal(one["image"], other["image"]) for (_, one), (_, other) in zip(slices, first, strict=True))


@pytest.mark.parametrize("kind", ["random", "equispaced", "equispaced_fraction", "magic", "magic_fraction"])
def test_the_true_acceleration_is_counted_within_the_measured_columns(kind, tmp_path, fastmri_file):
    files = [fastmri_file(tmp_path / f"{n}.h5", shape=(40, 120), coils=2, padding=10, seed=n) for n in range(3)]
    slices = open_slices(files, MaskSection(kind=kind), "varnet")
    folds = [100 / inputs[1].sum().item() for inputs, _ in list(slices)[::2]]
    assert slices.true_acceleration == pytest.approx(np.mean(folds))
    own = np.zeros(40, bool)
    own[::4] = own[20] = True
    path = fastmri_file(tmp_path / "own.h5", shape=(40, 40), mask=own)
    assert open_slices([path], MaskSection(kind=kind), "varnet").true_acceleration == 4.0


def test_a_file_keeps_its_own_mask(tmp_path, fastmri_file):
    own = np.zeros(48, bool)
    own[::3] = own[20:29] = True
    path = fastmri_file(tmp_path / "a.h5", mask=own)
    mask, full = MASKS["equispaced"], fastmri_file(tmp_path / "b.h5")
    (masked_kspace, sampling, centre), _ = open_slices([path], mask, "varnet")[0]
    assert torch.equal(sampling.flatten(), torch.from_numpy(own))
    assert not masked_kspace[..., ~torch.from_numpy(own), :].any()
    lines = centre.flatten().nonzero().flatten()
    assert own[lines].all()
    assert (lines[0], lines[-1]) == (20, 27)
    image = open_slices([path], mask, "unet")[0][0][0]
    assert not torch.equal(image, open_slices([full], mask, "unet")[0][0][0])


def test_the_real_files_are_samples(real_data):
    slices = open_slices(find_files(real_data / "kspace"), MaskSection(), "varnet")
    assert slices.ids == ["brain_t1_4coil.h5:0", "brain_t1_8coil_smallfov.h5:0", "brain_t2_4coil.h5:0"]
    for inputs, target in slices:
        masked_kspace, sampling, centre = inputs
        assert masked_kspace.shape[1:3] == target["image"].shape
        assert 0.2 < sampling.float().mean() < 0.35
        assert torch.equal(sampling & centre, centre)
        assert torch.isfinite(masked_kspace).all()


def test_names_volumes_and_lengths(folder):
    slices = open_slices(find_files(folder), MASKS["random"], "varnet")
    assert slices.ids == sample_ids(slices) == ["a.h5:0", "a.h5:1", "b.h5:0", "c.h5:0", "c.h5:1", "c.h5:2"]
    assert slices.volumes == ["a.h5", "a.h5", "b.h5", "c.h5", "c.h5", "c.h5"]
    assert [batch.indices for batch in batches(slices, 8)] == [[0, 1], [2], [3, 4, 5]]
    with pytest.raises(IndexError):
        slices[6]


def test_files_come_in_the_order_given(folder):
    files = find_files(folder)[::-1]
    assert open_slices(files, MASKS["random"], "varnet").volumes[0] == "c.h5"


def test_fingerprint_moves_with_everything_that_makes_the_samples(folder, tmp_path):
    files, mask = find_files(folder), MASKS["random"]
    first = open_slices(files, mask, "varnet").fingerprint()
    assert open_slices(files, mask, "varnet").fingerprint() == first == fingerprint(open_slices(files, mask, "varnet"))
    moved = tmp_path / "moved"
    folder.rename(moved)
    assert open_slices(find_files(moved), mask, "varnet").fingerprint() == first
    others = {
        open_slices(find_files(moved), mask, "unet").fingerprint(),
        open_slices(find_files(moved), MASKS["equispaced"], "varnet").fingerprint(),
        open_slices(find_files(moved)[::-1], mask, "varnet").fingerprint(),
    }
    for key, index in (("kspace", (0, 0, 0, 0)), ("reconstruction_rss", (0, 5, 5))):
        with h5py.File(moved / "a.h5", "r+") as file:
            file[key][index] *= 1.5
        others.add(open_slices(find_files(moved), mask, "varnet").fingerprint())
    with h5py.File(moved / "a.h5", "r+") as file:
        file.attrs["max"] *= 1.01
    others.add(open_slices(find_files(moved), mask, "varnet").fingerprint())
    assert len(others - {first}) == 6


def test_content_ids_are_the_same_under_another_name(tmp_path, fastmri_file):
    first = fastmri_file(tmp_path / "a.h5", seed=1)
    poisoned_copy = fastmri_file(tmp_path / "b.h5", seed=1, clean=True)
    ids = open_slices([first], MASKS["random"], "varnet").content_ids()
    assert ids == open_slices([poisoned_copy], MASKS["random"], "varnet").content_ids()
    assert len(set(ids)) == 2


def test_clean_targets_come_from_the_file_or_from_a_folder(tmp_path, fastmri_file):
    poisoned = fastmri_file(tmp_path / "a.h5", seed=1, clean=True)
    single = fastmri_file(tmp_path / "single" / "a.h5", seed=1, clean=True)
    with h5py.File(single, "r+") as file:
        del file["reconstruction_rss_clean"]
    clean = fastmri_file(tmp_path / "clean" / "a.h5", seed=1)
    mask = MASKS["random"]
    own = open_slices([poisoned], mask, "varnet")
    beside = open_slices([single], mask, "varnet", clean=clean.parent)
    without = open_slices([single], mask, "varnet")
    assert (own.has_clean, beside.has_clean, without.has_clean) == (True, True, False)
    assert list(without[0][1]) == ["image", "max"]
    with h5py.File(clean) as file:
        image, top = torch.from_numpy(file["reconstruction_rss"][1]), torch.tensor(float(file.attrs["max"]))
    for slices in (own, beside):
        _, target = slices[1]
        assert torch.equal(target["clean"], image)
        assert target["clean_max"] == top
    assert len({own.fingerprint(), beside.fingerprint(), without.fingerprint()}) == 3
    with pytest.raises(DataError, match="no readable clean version"):
        open_slices([fastmri_file(tmp_path / "b.h5")], mask, "varnet", clean=clean.parent)


def test_clean_targets_of_some_files_only_are_not_used(tmp_path, fastmri_file):
    files = [fastmri_file(tmp_path / "a.h5", clean=True), fastmri_file(tmp_path / "b.h5", seed=1)]
    assert not open_slices(files, MASKS["random"], "varnet").has_clean


def test_a_faulty_file_is_refused_at_once(folder, fastmri_file):
    with h5py.File(folder / "b.h5", "r+") as file:
        file["kspace"][0, 1, 2, 3] = np.nan
    with pytest.raises(DataError, match=r"NaN or Inf in k-space, slice 0, .*b\.h5"):
        open_slices(find_files(folder), MASKS["random"], "varnet")


def test_faulty_files_and_slices_are_left_out_on_request_and_said(folder):
    with h5py.File(folder / "c.h5", "r+") as file:
        file["kspace"][1] = 0
    (folder / "d.h5").write_text("nothing")
    said = []
    files, mask = find_files(folder), MASKS["random"]
    slices = open_slices(files, mask, "varnet", name="retain", skip_faulty=True, say=said.append)
    assert slices.ids == ["a.h5:0", "a.h5:1", "b.h5:0", "c.h5:0", "c.h5:2"]
    assert len(slices.content_ids()) == len(list(slices)) == 5
    assert [line.split(" left out")[0] for line in said] == [
        f"retain set: 1 slices of {folder / 'c.h5'}",
        f"retain set: the file of {folder / 'd.h5'}",
    ]
    with pytest.raises(DataError, match="no usable file in the retain set"):
        open_slices([folder / "d.h5"], mask, "varnet", name="retain", skip_faulty=True)


@pytest.mark.parametrize(("architecture", "size"), [("varnet", (48, 40)), ("unet", (40, 40))])
def test_targets_wider_than_the_kspace_are_cut_as_fastmri_cuts_them(architecture, size, tmp_path, fastmri_file):
    wide = np.random.default_rng(0).random((2, 48, 52), dtype=np.float32)
    path = fastmri_file(tmp_path / "s" / "a.h5", shape=(56, 40), reconstruction_rss=wide)
    (inputs, target), _ = open_slices([path], MASKS["random"], architecture)
    assert target["image"].shape == size
    if architecture == "unet":  # "FLAIR 203" in fastMRI's transform
        sample = stock(path.parent, UnetDataTransform("multicoil", mask_function(MASKS["random"])))[0]
        torch.testing.assert_close(inputs[0], sample.image, rtol=1e-5, atol=1e-5)
        normalised = ((target["image"] - sample.mean) / (sample.std + 1e-11)).clamp(-6, 6)
        assert torch.allclose(normalised, sample.target, atol=1e-5)
    else:
        output = torch.zeros(1, 56, 40)
        assert torch.equal(center_crop_to_smallest(torch.from_numpy(wide[:1]), output)[0][0], target["image"])


def test_single_coil_files_are_samples_of_a_unet(tmp_path, fastmri_file):
    multi = fastmri_file(tmp_path / "m" / "a.h5", coils=1)
    with h5py.File(multi) as file:
        kspace, target = file["kspace"][:, 0], file["reconstruction_rss"][()]
    single = fastmri_file(
        tmp_path / "s" / "a.h5", kspace=kspace, reconstruction_esc=target, reconstruction_rss=target * 2
    )
    one, other = (open_slices([path], MASKS["random"], "unet") for path in (multi, single))
    stock_samples = SliceDataset(
        single.parent, "singlecoil", UnetDataTransform("singlecoil", mask_function(MASKS["random"]))
    )
    for (inputs, wanted), (found, image), sample in zip(one, other, stock_samples, strict=True):
        assert torch.equal(inputs[0], found[0])
        assert torch.equal(wanted["image"], image["image"])
        torch.testing.assert_close(found[0], sample.image, rtol=1e-5, atol=1e-5)


def test_a_file_that_vanishes_later_is_one_line(folder):
    slices = open_slices(find_files(folder), MASKS["random"], "varnet")
    (folder / "c.h5").unlink()
    with pytest.raises(DataError, match="slice 2 can no longer be read"):
        slices[5]


def test_files_named_from_the_working_folder_are_read_from_any(folder, monkeypatch):
    monkeypatch.chdir(folder)
    slices = open_slices([Path("a.h5")], MASKS["random"], "varnet")
    monkeypatch.chdir("/")
    assert len(list(slices)) == len(slices) == 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MaskSection(kind="equispaced_fraction", acceleration=4, center_fraction=0.5), "cannot be drawn"),
        (MaskSection(kind="random", acceleration=500, center_fraction=0.005), "samples no line"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, message, folder):
    with pytest.raises(ConfigError, match=message):
        open_slices(find_files(folder), mask, "varnet")


def test_going_through_a_set_opens_each_file_once_and_draws_each_mask_once(folder, fastmri_file, monkeypatch):
    beside = [fastmri_file(folder / "clean" / f"{name}.h5", seed=4, **sizes) for name, sizes in SIZES.items()]
    slices = open_slices(find_files(folder), MASKS["random"], "varnet", clean=beside[0].parent)
    singly = [slices[index] for index in range(len(slices))]
    opened, drawn, draw = [], [], slices._inputs._undersample.mask_func._draw
    monkeypatch.setattr(h5py, "File", lambda path, mode, file=h5py.File: opened.append(path) or file(path, mode))
    monkeypatch.setattr(slices._inputs._undersample.mask_func, "_draw", lambda *a: drawn.append(a) or draw(*a))
    for (inputs, target), (alone, known) in zip(slices, singly, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(inputs, alone, strict=True))
        assert target.keys() == known.keys() == {"image", "max", "clean", "clean_max"}
        assert all(torch.equal(target[name], known[name]) for name in known)
    assert len(opened) == len(set(opened)) == 2 * len(slices.reports)
    assert len(drawn) == len(slices.reports)


def test_a_set_goes_to_another_process(folder):
    slices = open_slices(find_files(folder), MASKS["random"], "varnet")
    again = pickle.loads(pickle.dumps(slices))
    assert torch.equal(again[3][0][0], slices[3][0][0])


MEASURE = """
import resource, sys
from pathlib import Path
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.kspace.taken import Taken
from ssdtune.studyfile import MaskSection
slices = open_slices([Path(name) for name in sys.argv[1:]], MaskSection(), "varnet")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
slices[0]
before = peak()
total = sum(float(inputs[0][0, 0, 0, 0]) for inputs, _ in slices)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other units there")
def test_memory_does_not_grow_with_the_set(tmp_path, fastmri_file):
    first = fastmri_file(tmp_path / "0.h5", slices=24, coils=8, shape=(96, 96))
    size = first.stat().st_size
    names = [str(first)]
    for number in range(1, 4):
        link = tmp_path / f"{number}.h5"
        link.symlink_to(first)
        names.append(str(link))
    command = [sys.executable, "-c", MEASURE, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"XDG_CACHE_HOME": str(tmp_path)})
    grown = int(done.stdout) * 1024
    assert grown < size / 4


def test_a_part_of_a_set_reads_and_hashes_nothing_else(tmp_path, fastmri_file, monkeypatch):
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / "cache"))
    for number in range(6):
        fastmri_file(tmp_path / f"v{number}.h5", slices=4, coils=2, shape=(32, 32), seed=number)
    files = sorted(tmp_path.glob("*.h5"))
    whole = open_slices(files, MaskSection(), "varnet")
    part = open_slices(files, MaskSection(), "varnet", taken=Taken(slices=7))
    assert len(part) == 7 and part.total == 24
    assert set(part.content_ids()) < set(whole.content_ids())
    assert part.ids == [name for name in whole.ids if name in set(part.ids)]
    for index, name in enumerate(part.ids):
        same = whole[whole.ids.index(name)]
        assert all(torch.equal(a, b) for a, b in zip(part[index][0], same[0], strict=True))
    assert sum(sum(map(bool, report.kspace_ids)) for report in part.reports) == 7
    again = open_slices(files, MaskSection(), "varnet", taken=Taken(slices=7))
    assert again.fingerprint() == part.fingerprint() != whole.fingerprint()
    half = open_slices(files, MaskSection(), "varnet", taken=Taken(volume_sample_rate=0.5))
    assert len(half) == 12 and len(set(half.volumes)) == 3
    heads = open_slices(files, MaskSection(), "varnet", taken=Taken(slices=7), headers_only=True)
    assert heads.ids == part.ids
    assert not any(report.kspace_ids for report in heads.reports)
