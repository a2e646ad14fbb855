"""Scans written by the ismrmrd package and as BART writes them come back as the same k-space."""

import re

import h5py
import numpy as np
import pytest
from fastmri.data.mri_data import SliceDataset

from ssdtune.cli import main
from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.kspace.check import check_file
from ssdtune.mri.kspace.convert import convert_files
from ssdtune.mri.kspace.fourier import centred, fft2c, ifft2c, root_sum_of_squares
from ssdtune.mri.kspace.write import ismrmrd_header
from ssdtune.mri.phantom.simulate import simulate_volume

ismrmrd = pytest.importorskip("ismrmrd")


def scan(size=(32, 24), slices=2, coils=3):
    return simulate_volume(size=size, slices=slices, coils=coils, noise=0.02).kspace


def write_ismrmrd(path, kspace, *, edit=lambda xml: xml, change=None, oversampled=1, lines=None, averages=1):
    """One acquisition a line, slices interleaved; ``change(acquisition)`` spoils it or drops it by returning False."""
    slices, coils, nx, ny = kspace.shape
    first, end = lines or (0, ny)
    xml = edit(ismrmrd_header((slices, coils, nx, ny), (1.0, 2.0, 5.0), (first, end)))
    shown, field = f"<x>{nx}</x><y>{ny}</y>", f"<x>{nx}</x><y>{2 * ny}</y>"
    if oversampled > 1:
        before, after = xml.split("<reconSpace>")
        after = after.replace(shown, f"<x>{nx // oversampled}</x><y>{ny}</y>")
        xml = before + "<reconSpace>" + after.replace(field, f"<x>{nx // oversampled}</x><y>{2 * ny}</y>")
    with ismrmrd.Dataset(str(path), create_if_needed=True) as file:
        file.write_xml_header(xml.encode())
        noise = ismrmrd.Acquisition.from_array(np.ones((coils, 7), np.complex64))
        noise.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        file.append_acquisition(noise)
        for average in range(averages):
            for column in range(first, end):
                for number in reversed(range(slices)):
                    values = np.ascontiguousarray(kspace[number, :, :, column])
                    acquisition = ismrmrd.Acquisition.from_array(values + (average - (averages - 1) / 2))
                    acquisition.idx.kspace_encode_step_1 = column - first
                    acquisition.idx.slice, acquisition.idx.average = number, average
                    if change is None or change(acquisition) is not False:
                        file.append_acquisition(acquisition)


def write_bart(path, kspace, *, dims=None):
    """As BART does: (kx, ky, 1, coils, ..., slices), the first dimension fastest."""
    slices, coils, nx, ny = kspace.shape
    dims = dims or [nx, ny, 1, coils, *[1] * 9, slices, 1, 1]
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(map(str, dims))} \n# Command\nphantom\n")
    kspace.transpose(2, 3, 1, 0).astype(np.complex64).ravel(order="F").tofile(path.with_suffix(".cfl"))


def read(path):
    with h5py.File(path) as file:
        return file["kspace"][()], file["reconstruction_rss"][()], dict(file.attrs)


@pytest.mark.parametrize("lines", [None, (2, 21)])
@pytest.mark.parametrize("write", [write_ismrmrd, write_bart])
def test_there_and_back(tmp_path, write, lines):
    kspace = scan()
    if lines:
        kspace[..., : lines[0]] = kspace[..., lines[1] :] = 0
    write(tmp_path / "scan.h5", kspace, **({"lines": lines} if write is write_ismrmrd else {}))
    source = tmp_path / ("scan.h5" if write is write_ismrmrd else "scan")  # BART names arrays without a suffix
    (made,) = convert_files([source], tmp_path / "out")
    found, target, attributes = read(made)
    np.testing.assert_array_equal(found, kspace)
    np.testing.assert_allclose(target, root_sum_of_squares(kspace), rtol=1e-5, atol=1e-6)
    assert attributes["max"] == pytest.approx(target.max())
    assert attributes["norm"] == pytest.approx(np.linalg.norm(target))
    report = check_file(made)
    assert report.usable and not report.mismatches
    metadata = SliceDataset(tmp_path / "out", challenge="multicoil").raw_samples[0].metadata
    assert (metadata["padding_left"], metadata["padding_right"]) == (lines or (0, 24))


def test_readout_oversampling_is_cut_off_in_image_space(tmp_path):
    kspace = scan((64, 24))
    write_ismrmrd(tmp_path / "scan.h5", kspace, oversampled=2)
    (made,) = convert_files([tmp_path / "scan.h5"], tmp_path / "out")
    found, target, _ = read(made)
    assert found.shape == (2, 3, 32, 24) and target.shape == (2, 32, 24)
    np.testing.assert_allclose(found, fft2c(centred(ifft2c(kspace), -2, 32)), atol=1e-5)
    np.testing.assert_allclose(target, root_sum_of_squares(kspace)[:, 16:48], rtol=1e-4, atol=1e-5)
    assert not check_file(made).mismatches


def test_averages_are_averaged_and_the_subject_keeps_no_name(tmp_path):
    def edit(xml):
        person = "<subjectInformation><patientName>Anne</patientName><patientID>p7</patientID></subjectInformation>"
        about = "<measurementInformation><patientPosition>HFS</patientPosition><protocolName>T2 tra</protocolName>"
        start = "<acquisitionSystemInformation>"
        return xml.replace(start, f"{person}{about}</measurementInformation>{start}")

    kspace = scan()
    write_ismrmrd(tmp_path / "scan.h5", kspace, averages=2, edit=edit)
    (made,) = convert_files([tmp_path / "scan.h5"], tmp_path / "out")
    found, _, attributes = read(made)
    np.testing.assert_allclose(found, kspace, atol=1e-6)
    assert (attributes["patient_id"], attributes["acquisition"]) == ("p7", "T2_tra")
    assert b"Anne" not in made.read_bytes()


def _is(**values):
    """A change that sets counters of every acquisition after the first lines."""

    def change(acquisition):
        if acquisition.idx.kspace_encode_step_1 > 3:
            for name, value in values.items():
                setattr(acquisition.idx, name, value)

    return change


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edit": lambda xml: xml.replace("cartesian", "radial")}, "the trajectory is radial"),
        ({"edit": lambda xml: xml.replace("<z>1</z>", "<z>8</z>")}, "3-D k-space, 8"),
        ({"edit": lambda xml: xml[:90]}, "header cannot be read"),
        ({"edit": lambda xml: re.sub("<encodingLimits>.*</encodingLimits>", "", xml, flags=re.S)}, "cannot be read"),
        ({"edit": lambda xml: re.sub("<fieldOfView_mm><x>.*?</x>", "<fieldOfView_mm><x>0</x>", xml)}, "cannot be read"),
        ({"change": lambda a: a.idx.kspace_encode_step_1 % 2 == 0}, "slice 0 has 12 of 24 lines"),
        ({"change": _is(repetition=1)}, "several values of repetition (0 to 1)"),
        ({"change": _is(kspace_encode_step_1=99)}, "line 99 is outside"),
        ({"change": lambda a: a.setFlag(ismrmrd.ACQ_IS_REVERSE)}, "read backwards"),
        ({"change": lambda a: a.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)}, "no lines of an image"),
        ({"change": lambda a: setattr(a, "discard_post", 5)}, "readouts of 27 samples, 32 are encoded"),
    ],
)
def test_what_is_no_full_cartesian_scan_is_refused(tmp_path, options, words):
    write_ismrmrd(tmp_path / "scan.h5", scan(), **options)
    with pytest.raises(DataError, match=re.escape(words)):
        convert_files([tmp_path / "scan.h5"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path, k: write_bart(path, k, dims=[32, 24, 2, 3]), "dimension PHS2 (2) is 2"),
        (lambda path, k: write_bart(path, k, dims=[32, 24, 1, 3, 2]), "dimension MAPS (4) is 2"),
        (lambda path, k: write_bart(path, k, dims=[32, 24, 1, 3]), "holds 4608 numbers"),
        (lambda path, k: write_bart(path, np.where(np.arange(24) % 2, k, 0)), "slice 0 has 12 of 23 lines"),
        (lambda path, k: write_bart(path, 0 * k), "all zero"),
        (lambda path, k: write_bart(path, k * np.where(np.arange(24) == 3, np.nan, 1)), "NaN or Inf"),
        (lambda path, k: path.with_suffix(".hdr").unlink(), "cannot read (No such file"),
        (lambda path, k: path.with_suffix(".hdr").write_text("nothing"), "no dimensions"),
    ],
)
def test_arrays_that_are_no_scan_are_refused(tmp_path, spoil, words):
    write_bart(tmp_path / "scan", scan())
    spoil(tmp_path / "scan", scan())
    with pytest.raises(DataError, match=re.escape(words)):
        convert_files([tmp_path / "scan.cfl"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_table_of_something_else_is_refused(tmp_path):
    write_ismrmrd(tmp_path / "scan.h5", scan())
    with h5py.File(tmp_path / "scan.h5", "r+") as file:
        del file["dataset/data"]
        file["dataset/data"] = np.ones(4)
    with pytest.raises(DataError, match="not in ISMRMRD's form"):
        convert_files([tmp_path / "scan.h5"], tmp_path / "out")


def test_a_folder_of_both_and_what_is_there_already(tmp_path, capsys):
    write_ismrmrd(tmp_path / "in.h5", scan())
    write_bart(tmp_path / "array", scan())
    main(["data", "convert", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "wrote 2 files" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="there already"):
        convert_files([tmp_path / "array"], tmp_path / "out")
    with pytest.raises(DataError, match="fastMRI's layout already"):
        convert_files([tmp_path / "out/in.h5"], tmp_path / "again")
    assert convert_files([tmp_path / "array"], tmp_path / "out", overwrite=True)
    with pytest.raises(ConfigError, match="there already"):  # it would replace what it reads
        convert_files([tmp_path / "in.h5"], tmp_path, overwrite=True)


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    write_ismrmrd(tmp_path / "in.h5", scan())
    monkeypatch.setattr("ssdtune.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ismrmrd is missing.*pip install 'ssdtune\[convert\]'"):
        convert_files([tmp_path / "in.h5"], tmp_path / "out")
