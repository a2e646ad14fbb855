"""Each kind of bad file has its own one-line fault; sound and real files have none."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ssdtune.errors import DataError
from ssdtune.files import hdf5_trouble
from ssdtune.mri.kspace.check import check_clean, check_file, check_files
from ssdtune.mri.kspace.find import as_line, find_files, labels
from ssdtune.mri.kspace.reports import known_report
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.studyfile import MaskSection


def truncate(path):
    path.write_bytes(path.read_bytes()[:-4000])


def overwrite(path):
    path.write_text("not k-space")


def with_attribute(name, value):
    def change(path):
        with h5py.File(path, "r+") as file:
            if value is None:
                del file.attrs[name]
            else:
                file.attrs[name] = value

    return change


def with_values(key, index, value):
    def change(path):
        with h5py.File(path, "r+") as file:
            file[key][index] = value

    return change


HEADER_WITHOUT_LIMITS = """<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><encodedSpace><matrixSize>
<x>48</x><y>48</y><z>1</z></matrixSize></encodedSpace></encoding></ismrmrdHeader>"""

# how the file differs from a sound one, and what its first fault says
FAULTS = {
    "truncated": ({}, truncate, "damaged HDF5 file|not an HDF5 file"),
    "not HDF5": ({}, overwrite, "not an HDF5 file"),
    "no kspace": ({"kspace": None}, None, "no 'kspace'"),
    "real kspace": ({"kspace": np.ones((2, 4, 48, 48), np.float32)}, None, "float32, not complex64"),
    "pairs of reals": ({"kspace": np.ones((2, 4, 48, 48), [("re", "f4"), ("im", "f4")])}, None, "not complex64"),
    "no axis of slices": ({"kspace": np.ones((4, 48, 48), np.complex64)}, None, "has 2 slices, k-space 4"),
    "rank 2": ({"kspace": np.ones((48, 48), np.complex64)}, None, "2 dimensions"),
    "rank 5": ({"kspace": np.ones((2, 1, 4, 48, 48), np.complex64)}, None, "5 dimensions"),
    "zero slices": ({"kspace": np.ones((0, 4, 48, 48), np.complex64)}, None, "no slices"),
    "no coils": ({"kspace": np.ones((2, 0, 48, 48), np.complex64)}, None, "empty"),
    "NaN in kspace": ({}, with_values("kspace", (1, 2, 3, 4), np.nan), "NaN or Inf in k-space, slice 1"),
    "Inf in kspace": ({}, with_values("kspace", (0, 2, 3, 4), complex(0, np.inf)), "NaN or Inf in k-space, slice 0"),
    "empty kspace": ({}, with_values("kspace", 1, 0), "k-space of slice 1 is all zero"),
    "no target": ({"reconstruction_rss": None}, None, "no 'reconstruction_rss'"),
    "target rank": ({"reconstruction_rss": np.ones((48, 48), np.float32)}, None, "reconstruction_rss"),
    "target dtype": ({"reconstruction_rss": np.ones((2, 48, 48), np.complex64)}, None, "complex64"),
    "target of texts": ({"reconstruction_rss": np.full((2, 48, 48), b"1.0")}, None, r"\|S3"),
    "target slices": ({"reconstruction_rss": np.ones((3, 48, 48), np.float32)}, None, "has 3 slices, k-space 2"),
    "target too small": ({"reconstruction_rss": np.ones((2, 6, 48), np.float32)}, None, "6x48"),
    "NaN in target": ({}, with_values("reconstruction_rss", (1, 2, 3), np.nan), "NaN or Inf in target, slice 1"),
    "empty target": ({}, with_values("reconstruction_rss", 0, 0), "target of slice 0 is all zero"),
    "no max": ({}, with_attribute("max", None), "attribute 'max' is not there"),
    "zero max": ({}, with_attribute("max", 0.0), "attribute 'max' is 0"),
    "no header": ({"ismrmrd_header": None}, None, "no 'ismrmrd_header'"),
    "header is no XML": ({"ismrmrd_header": "<a><b>"}, None, "'ismrmrd_header' is not valid"),
    "header is a number": ({"ismrmrd_header": 7}, None, "'ismrmrd_header' is not valid"),
    "header without limits": ({"ismrmrd_header": HEADER_WITHOUT_LIMITS}, None, "'ismrmrd_header' is not valid"),
    "a silent coil": ({}, with_values("kspace", (1, 2), 0), "coil 2 of slice 1 has no signal in the middle line"),
    "a coil's silent centre": ({}, with_values("kspace", (0, 1, slice(None), 24), 0), "coil 1 of slice 0"),
    "a very faint coil": ({}, with_values("kspace", (0, 3), 1e-30), "coil 3 of slice 0"),
    "very faint": ({}, with_values("kspace", 1, 1e-25), "k-space of slice 1 reaches 1e-25 only"),
    "too strong for float32": ({"kspace": np.full((2, 4, 48, 48), 1e40 + 0j)}, None, "NaN or Inf in k-space"),
    "mask of no line": ({"mask": np.zeros(48)}, None, "'mask' samples no line"),
    "mask without the middle": ({"mask": np.arange(48) % 5 == 0}, None, "does not sample the middle line"),
    "mask of shares": ({"mask": np.full(48, 0.5)}, None, "other values than 0 and 1"),
    "mask with NaN": ({"mask": np.full(48, np.nan)}, None, "other values than 0 and 1"),
    "mask of texts": ({"mask": np.full(48, b"1")}, None, "'mask' is .*, not numbers"),
    "mask of an image": ({"mask": np.ones((48, 48))}, None, "'mask' has shape"),
    "mask is a number": ({"mask": 1}, None, "'mask' has shape"),
    "mask of another width": ({"mask": np.ones(47, bool)}, None, "'mask' has shape"),
    "clean of another size": ({"reconstruction_rss_clean": np.ones((2, 40, 48), np.float32)}, None, "max_clean"),
}


for _name, _value in {
    "text": "1.0",
    "bytes": b"1.0",
    "no value": h5py.Empty("f4"),
    "two values": np.ones(2),
    "complex": 1j,
    "NaN": np.nan,
    "infinity": np.inf,
    "negative": -1,
    "a truth": True,
    "nothing in float32": 1e-310,
    "infinite in float32": 1e300,
}.items():
    FAULTS[f"max is {_name}"] = ({}, with_attribute("max", _value), "attribute 'max' is ")


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_is_found_and_raised_as_one_line(case, tmp_path, fastmri_file):
    changes, damage, message = FAULTS[case]
    path = fastmri_file(tmp_path / "bad.h5", **changes)
    if damage:
        damage(path)
    report = check_file(path)
    assert not report.usable
    with pytest.raises(DataError, match=message) as error:
        report.raise_first_fault()
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.todo


def test_damage_to_the_files_structure_is_a_fault(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes().replace(b"TREE", b"EERT"))  # HDF5 finds its groups no more
    assert "damaged HDF5 file (wrong B-tree signature)" in check_file(path).faults[0][0]


NUMBERS = {
    "big-endian": (">c8", ">f4"),
    "double": ("<c16", "<f8"),
    "big-endian double": (">c16", ">f8"),
    "half": ("<c8", "<f2"),
    "extended": ("<c8", np.longdouble),
    "whole numbers": ("<c8", ">i4"),
}


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("architecture", ["varnet", "unet"])
def test_any_numeric_type_becomes_the_same_samples(kind, architecture, tmp_path, fastmri_file):
    plain = fastmri_file(tmp_path / "plain" / "a.h5")
    with h5py.File(plain, "r+") as file:  # values that every type holds
        file["reconstruction_rss"][...] = target = np.round(file["reconstruction_rss"][()] * 1e6)
        file["kspace"][...] = kspace = file["kspace"][()] * 1e6
        file.attrs["max"] = target.max()
        limits = file["ismrmrd_header"][()]
    complex_kind, real_kind = NUMBERS[kind]
    other = {"kspace": kspace.astype(complex_kind), "reconstruction_rss": target.astype(real_kind)}
    path = fastmri_file(tmp_path / "other" / "a.h5", **other, ismrmrd_header=limits)
    with h5py.File(path, "r+") as file:
        file.attrs["max"] = np.array([[target.max()]], ">f8")
        file.attrs["acquisition"] = np.array([b"TEST"])
    assert check_file(path).faults == ()
    one, two = (open_slices([p], MaskSection(kind="random"), architecture) for p in (plain, path))
    assert one.fingerprint() == two.fingerprint()
    assert one.anatomies == two.anatomies
    for (first, wanted), (second, found) in zip(one, two, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert all(torch.equal(wanted[key], found[key]) for key in wanted)


@pytest.mark.parametrize("form", [bool, "i1", ">i8", "f4", ">f8", "column"])
def test_own_masks_of_any_form_are_one(form, tmp_path, fastmri_file):
    lines = np.arange(48) % 3 == 0
    mask = lines[None, :, None] if form == "column" else lines.astype(form)
    (_, sampling, _), _ = open_slices([fastmri_file(tmp_path / "a.h5", mask=mask)], MaskSection(), "varnet")[0]
    assert torch.equal(sampling.flatten(), torch.from_numpy(lines))


def test_an_own_mask_of_all_lines_leaves_the_studys_in_force_and_says_so(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "x" / "a.h5", mask=np.ones(48), padding=4)
    without = fastmri_file(tmp_path / "y" / "a.h5", padding=4)
    assert "the study's mask is applied" in check_file(path).mismatches[0]
    one, two = (open_slices([p], MaskSection(), "varnet")[0][0] for p in (path, without))
    assert torch.equal(one[0], two[0])
    assert not one[1].all()


def test_a_target_wider_than_the_kspace_is_cut_and_an_interpolated_one_refused(tmp_path, fastmri_file):
    wide = np.random.default_rng(0).random((2, 48, 60), dtype=np.float32)
    path = fastmri_file(tmp_path / "a.h5", reconstruction_rss=wide)
    report = check_file(path)
    assert report.usable
    assert "larger than k-space (48x48); both are cut" in " ".join(report.mismatches)
    fov = "</matrixSize><fieldOfView_mm><x>240</x><y>240</y><z>5</z></fieldOfView_mm>"
    with h5py.File(path) as file:
        header = file["ismrmrd_header"][()].decode().replace("</matrixSize>", fov)
    large = np.ones((2, 96, 96), np.float32)
    bad = check_file(fastmri_file(tmp_path / "b.h5", reconstruction_rss=large, ismrmrd_header=header))
    assert "was interpolated: pixels of 2.5 mm, 5 mm in k-space" in bad.faults[0][0]
    assert "crop" not in bad.faults[0][1]


def test_a_file_that_another_process_writes_is_called_so(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5")
    hold = f"import h5py, sys; file = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        other.stdout.readline()
        what, todo = check_file(path).faults[0]
        other.communicate()
    assert "another process has the file open for writing" in what
    assert "HDF5_USE_FILE_LOCKING=FALSE" in todo
    assert check_file(path).usable


def test_a_file_that_was_not_closed_is_called_so(tmp_path):
    left = (
        f"import h5py, os; file = h5py.File({str(tmp_path / 'a.h5')!r}, 'w', libver='latest'); file['x'] = 1; "
        "file.swmr_mode = True; file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", left], check=True)
    what, todo = check_file(tmp_path / "a.h5").faults[0]
    assert "not closed" in what
    assert "h5clear" in todo


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_called_so(code, tmp_path):
    said = f"unable to lock file, errno = {code}, error message = '{os.strerror(code)}'"
    what, todo = hdf5_trouble(tmp_path / "a.h5", OSError(f"Unable to synchronously open file ({said})"))
    assert "knows no locks" in what
    assert "HDF5_USE_FILE_LOCKING" in todo


def test_broken_slices_are_named_apart_from_the_file(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5", slices=5)
    with h5py.File(path, "r+") as file:
        file["kspace"][4] = file["reconstruction_rss"][4] = 0
        file["kspace"][0, 1, 2, 3] = np.nan
        file["kspace"][3, 1, 2, 3] = np.nan
    report = check_file(path)
    assert report.broken == (0, 3, 4)
    assert report.sound_slices == (1, 2)
    assert [what for what, _ in report.faults] == ["NaN or Inf in k-space, slice 0", "k-space of slice 4 is all zero"]


def test_an_absent_file_is_a_fault(tmp_path):
    report = check_file(tmp_path / "absent.h5")
    assert report.faults[0][0] == "cannot read (No such file or directory)"


def test_a_pipe_is_a_fault_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.h5")
    assert check_file(tmp_path / "a.h5").faults[0][0] == "cannot read (not a file)"


def test_a_file_without_permission_is_a_fault(tmp_path, fastmri_file, unprivileged):
    path = fastmri_file(tmp_path / "a.h5")
    path.chmod(0)
    with unprivileged():
        report = check_file(path)
    assert "Permission denied" in report.faults[0][0]


def test_all_missing_keys_are_named(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5", kspace=None, ismrmrd_header=None)
    assert check_file(path).missing == ("kspace", "ismrmrd_header")


def test_nan_values_are_counted_over_all_slices(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5", slices=3)
    with h5py.File(path, "r+") as file:
        file["kspace"][0, 0, 0, :5] = np.nan
        file["kspace"][2, 0, 0, :2] = np.inf
    assert check_file(path).nan == 7


@pytest.mark.parametrize("padding", [0, 5])
def test_a_sound_file_has_no_faults_and_no_mismatches(padding, tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5", slices=2, coils=3, shape=(50, 44), target_shape=(40, 44), padding=padding)
    report = check_file(path)
    assert report.usable
    assert report.missing == ()
    assert report.mismatches == ()
    assert (report.slices, report.coils, report.kspace_size, report.target_size) == (2, 3, (50, 44), (40, 44))
    assert len(set(report.kspace_ids + report.target_ids)) == 4


def test_mismatches_are_named_but_do_not_stop(tmp_path, fastmri_file):
    rss = np.random.default_rng(0).random((2, 40, 40), dtype=np.float32)
    path = fastmri_file(tmp_path / "a.h5", reconstruction_rss=rss)
    report = check_file(path)
    assert report.usable
    assert [text.split()[0] for text in report.mismatches] == ["reconstructed", "target", "attribute"]


def test_the_clean_target_is_what_belongs_to_the_kspace(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5", clean=True)
    assert check_file(path).mismatches == ()
    with h5py.File(path, "r+") as file:
        del file["reconstruction_rss_clean"]
    assert "off the root sum of squares" in check_file(path).mismatches[0]


def test_the_real_files_are_sound(real_data):
    reports = check_files(find_files(real_data / "kspace"))
    assert [(report.coils, report.kspace_size, report.slices) for report in reports] == [
        (4, (256, 256), 1),
        (8, (320, 168), 1),
        (4, (256, 256), 1),
    ]
    for report in reports:
        assert report.usable
        assert report.mismatches == ()


def test_content_ids_follow_the_content_and_not_the_name(tmp_path, fastmri_file):
    first = check_file(fastmri_file(tmp_path / "a.h5", seed=1))
    same = check_file(fastmri_file(tmp_path / "other" / "b.h5", seed=1))
    poisoned = check_file(fastmri_file(tmp_path / "c.h5", seed=1, clean=True))
    other = check_file(fastmri_file(tmp_path / "d.h5", seed=2))
    assert first.kspace_ids == same.kspace_ids == poisoned.kspace_ids
    assert first.target_ids == poisoned.clean_ids
    assert not set(first.kspace_ids) & set(other.kspace_ids)
    assert not set(first.target_ids) & set(poisoned.target_ids)


def test_clean_targets_beside_are_checked_against_the_corrupted_ones(tmp_path, fastmri_file):
    report = check_file(fastmri_file(tmp_path / "a.h5", seed=1, clean=True))
    clean = fastmri_file(tmp_path / "clean" / "a.h5", seed=1, kspace=None, ismrmrd_header=None)
    assert len(check_clean(clean, report)) == report.slices
    for number, changes in enumerate([{"slices": 3}, {"shape": (40, 48)}, {"reconstruction_rss": None}]):
        with pytest.raises(DataError):
            check_clean(fastmri_file(tmp_path / f"{number}.h5", **changes), report)
    with pytest.raises(DataError, match=r"no readable clean version of a\.h5"):
        check_clean(tmp_path / "absent.h5", report)


def test_a_report_is_kept_until_the_file_changes(tmp_path, fastmri_file, monkeypatch):
    path = fastmri_file(tmp_path / "a.h5", seed=1)
    first = known_report(path)
    assert first == check_file(path, compare=False)
    with monkeypatch.context() as patch:
        patch.setattr("ssdtune.mri.kspace.reports.check_file", lambda *_, **__: pytest.fail("read again"))
        assert known_report(path) == first
        link = tmp_path / "link.h5"
        link.symlink_to(path)
        assert known_report(link).kspace_ids == first.kspace_ids
        assert known_report(link).path == link
    fastmri_file(path, seed=2)
    assert known_report(path).kspace_ids != first.kspace_ids


def test_a_damaged_or_unwritable_cache_is_only_slower(tmp_path, fastmri_file, monkeypatch):
    path = fastmri_file(tmp_path / "a.h5")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = known_report(path)
    for kept in (tmp_path / "cache").rglob("*.json"):
        kept.write_text("{")
    assert known_report(path) == first
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert known_report(path) == first


def test_files_are_found_by_folder_glob_list_and_name(tmp_path, fastmri_file):
    a, b = (fastmri_file(tmp_path / "set" / f"{name}.h5") for name in "ab")
    (tmp_path / "set" / "notes.md").write_text("")
    (tmp_path / "set" / "._a.h5").write_text("")
    listed = tmp_path / "list.txt"
    listed.write_text("# two files\nset/b.h5\n\nset/a.h5\n")
    assert find_files(tmp_path / "set") == [a, b]
    assert find_files(str(tmp_path / "*" / "*.h5")) == [a, b]
    assert find_files(listed) == [b, a]
    listed.write_bytes(b"\xef\xbb\xbf" + listed.read_bytes())  # as Windows saves it
    assert find_files(listed) == [b, a]
    assert find_files(str(a)) == [a]


@pytest.mark.parametrize("name", ["[old]", "a*b", "what?", "{x}", "-x", "a b"])
def test_a_glob_in_a_folder_of_any_name(name, tmp_path, monkeypatch):
    (tmp_path / name / "set").mkdir(parents=True)
    (tmp_path / name / "set" / "a.h5").touch()
    for pattern in ("set/*.h5", "*/a.h5", "**/*.h5"):
        assert find_files(tmp_path / name / pattern) == [tmp_path / name / "set" / "a.h5"]
    monkeypatch.chdir(tmp_path)
    assert find_files(f"{name}/*/*.h5") == [Path(name) / "set" / "a.h5"]


def test_file_names_that_repeat_are_told_apart_by_their_folders(tmp_path):
    paths = [tmp_path / "x" / "a.h5", tmp_path / "y" / "a.h5"]
    assert labels(paths) == ["x/a.h5", "y/a.h5"]
    assert labels(paths[:1]) == ["a.h5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("set/absent.h5", "no such file '.*absent.h5'"),
        ("set/a.h5\nset/../set/a.h5", "named 2 times"),
        ("# nothing\n", "a list that names no files"),
    ],
)
def test_bad_lists_are_refused(content, message, tmp_path, fastmri_file):
    fastmri_file(tmp_path / "set" / "a.h5")
    listed = tmp_path / "list.txt"
    listed.write_text(content)
    with pytest.raises(DataError, match=message):
        find_files(listed)


def test_a_folder_without_permission_is_refused(tmp_path, unprivileged):
    (tmp_path / "set").mkdir(mode=0)
    with unprivileged(), pytest.raises(DataError, match="Permission denied"):
        find_files(tmp_path / "set")


def test_a_binary_list_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text file"):
        find_files(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("abc", "abc"),
        (np.bytes_(b"abc"), "abc"),
        (np.array([[b"abc"]]), "abc"),
        (np.array(7, ">i8"), "7"),
        (np.nan, ""),
        (h5py.Empty("S1"), ""),
        (np.array([b"abc", b"d"]), "abc d"),
    ],
)
def test_a_subject_of_any_form_is_a_text(value, found, tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5")
    with_attribute("patient_id", value)(path)
    assert check_file(path).subject == found


def test_a_name_of_bytes_that_are_no_text_is_refused(tmp_path, fastmri_file):
    path = fastmri_file(tmp_path / "a.h5")
    path.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4.h5"))
    with pytest.raises(DataError, match=r"the file's name is no UTF-8.*rename it"):
        find_files(tmp_path)


@pytest.mark.parametrize("name", ["#a.h5", " a.h5", "-a.h5", "a b.h5", "'a'.h5", "~a.h5", "a#b.h5", "\u6f22.h5"])
def test_a_list_names_files_of_any_name(name, tmp_path):
    (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(f"# comment\n{as_line(name)}\n", "utf-8")
    (found,) = find_files(tmp_path / "list.txt")
    assert found.resolve() == (tmp_path / name).resolve()


@pytest.mark.parametrize("name", ["a\nb.h5", "a\u2028b.h5", "a.h5 ", "\udce4.h5", "\ta.h5"])
def test_a_name_that_a_list_cannot_hold_is_refused(name):
    with pytest.raises(DataError, match="cannot stand in a list"):
        as_line(name)


@pytest.mark.parametrize("spec", ["absent", "absent.txt", "absent.h5", "*.h5", "empty"])
def test_specs_that_name_nothing_are_refused(spec, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        find_files(str(tmp_path / spec))


def test_of_more_than_is_to_be_read_a_part_of_every_volume_is(tmp_path, fastmri_file):
    for number in range(4):
        fastmri_file(tmp_path / f"v{number}.h5", slices=4, coils=2, shape=(32, 32), seed=number)
    files = sorted(tmp_path.glob("*.h5"))
    whole = check_files(files)
    one = 8 * 2 * 32 * 32
    part = check_files(files, most=8 * one)
    assert [sum(map(bool, report.kspace_ids)) for report in part] == [2, 2, 2, 2]
    for report, full in zip(part, whole, strict=True):
        assert all(a in ("", b) for a, b in zip(report.kspace_ids, full.kspace_ids, strict=True))
        assert report.usable and not report.mismatches
    assert check_files(files, most=16 * one) == whole
