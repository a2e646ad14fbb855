"""NIfTI and DICOM images are scanned as they lie in the patient, in real units, and what is no series is refused."""

import re

import h5py
import numpy as np
import pytest

from ssdtune.cli import main
from ssdtune.errors import ConfigError, DataError
from ssdtune.mri.phantom.simulate import simulate_images
from ssdtune.mri.phantom.sources import open_images

nibabel = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")

QUICK = {"coils": 2, "noise": 0.0}


def body(shape=(20, 24, 5), seed=0):
    """Left to right, posterior to anterior, inferior to superior: every voxel another value."""
    return np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape).astype(np.float32) + 1


def write_nifti(path, values, zooms=(1.0, 1.0, 4.0), orientation="RAS"):
    """The same body stored along other axes."""
    affine = np.diag([*zooms, 1.0])
    image = nibabel.Nifti1Image(values, affine)
    target = nibabel.orientations.axcodes2ornt(orientation)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), target)), path)


def write_dicom(folder, values, *, change=lambda number, image: None, slope=0.5, intercept=-3.0):
    """Axial slices of a body, files named against the order of their positions."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    folder.mkdir()
    series = pydicom.uid.generate_uid()
    for number in range(values.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        pixels = np.ascontiguousarray(values[::-1, ::-1, number].T.astype(np.uint16))
        image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        image.SeriesInstanceUID, image.PatientID, image.ProtocolName = series, "p7", "T1 tra"
        image.Rows, image.Columns = pixels.shape
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
        image.PixelSpacing, image.SliceThickness = [0.9, 1.1], 3.0
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-10.0, -12.0, 4.5 * number]
        image.InstanceNumber = 1
        image.RescaleSlope, image.RescaleIntercept = slope, intercept
        image.PixelData = pixels.tobytes()
        change(number, image)
        image.save_as(folder / f"{values.shape[2] - number:02}.dcm", enforce_file_format=True)


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "SAR", "PIL"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_is_shown_alike_however_it_is_stored(tmp_path, orientation, suffix):
    values = body()
    write_nifti(tmp_path / f"brain{suffix}", values, orientation=orientation)
    source = open_images(tmp_path / f"brain{suffix}")
    # anterior at the top, the patient's right at the left
    np.testing.assert_array_equal(source.read(1, 2), values[::-1, ::-1, 1:3].transpose(2, 1, 0))
    assert source.orientation.startswith("axial slices, anterior at the top")
    assert (source.name, source.subject, source.count, source.size) == ("brain", "brain", 5, (24, 20))
    assert source.voxel_mm == pytest.approx((1.0, 1.0, 4.0))


def test_slices_are_along_the_thickest_voxels(tmp_path):
    values = body((5, 24, 20))
    write_nifti(tmp_path / "brain.nii", values, zooms=(4.0, 1.0, 2.0))
    source = open_images(tmp_path / "brain.nii")
    np.testing.assert_array_equal(source.read(3, 1)[0], values[3, ::-1, ::-1].T)
    assert source.orientation.startswith("sagittal") and source.voxel_mm == pytest.approx((2.0, 1.0, 4.0))


def test_a_series_is_sorted_by_position_and_rescaled(tmp_path):
    values = body()
    write_dicom(tmp_path / "series", values)
    (tmp_path / "series/readme.txt").write_text("no image")
    source = open_images(tmp_path / "series")
    wanted = values[::-1, ::-1].transpose(2, 1, 0) * 0.5 - 3
    np.testing.assert_allclose(source.read(0, 5), np.maximum(wanted, 0), rtol=1e-6)
    assert source.voxel_mm == pytest.approx((0.9, 1.1, 4.5))
    assert (source.subject, source.acquisition, source.name) == ("p7", "T1_tra", "series")
    assert source.orientation.startswith("axial slices in the order of their positions")
    assert open_images(tmp_path / "series/01.dcm").count == 1


@pytest.mark.parametrize("size", [None, 32])
def test_scans_carry_subject_and_real_sizes_and_the_orientation_is_said(tmp_path, size, capsys):
    write_nifti(tmp_path / "brain.nii.gz", body((24, 24, 5)), zooms=(2.0, 1.0, 4.0))
    arguments = ["--coils", "2", *(["--size", str(size)] if size else [])]
    main(["data", "simulate", str(tmp_path / "out"), "--images", str(tmp_path / "brain.nii.gz"), *arguments])
    assert "5 axial slices, anterior at the top" in capsys.readouterr().err
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"brain_{number:04}.h5" for number in range(5)]
    for file in files:
        with h5py.File(file) as opened:
            assert opened.attrs["patient_id"] == "brain"  # all slices show one
            field = re.findall(
                r"<fieldOfView_mm><x>(.*?)</x><y>(.*?)</y><z>(.*?)</z>", opened["ismrmrd_header"].asstr()[()]
            )
    assert [float(side) for side in field[0]] == pytest.approx([24, 48, 4])


def _series(number, image):
    image.SeriesInstanceUID = f"1.2.{number}"


def _position(number, image):
    image.ImagePositionPatient = [0, 0, 0]


def _direction(number, image):
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0] if number else [0, 1, 0, 0, 0, -1]


def _no_place(number, image):
    del image.ImagePositionPatient


def _colour(number, image):
    image.SamplesPerPixel = 3


def _short(number, image):
    image.PixelData = image.PixelData[:10]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_series, "5 series of images"),
        (_position, "two images at one position"),
        (_direction, "2 directions of images"),
        (_no_place, "images without position and number"),
        (_colour, "several frames or colours"),
        (_short, "the pixels cannot be read"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path, change, words):
    write_dicom(tmp_path / "series", body(), change=change)
    with pytest.raises(DataError, match=words):
        simulate_images(tmp_path / "out", tmp_path / "series", **QUICK)
    assert not (tmp_path / "out").exists()


def test_images_without_positions_go_by_their_number(tmp_path):
    def change(number, image):
        del image.ImagePositionPatient
        image.InstanceNumber = number + 1

    values = body()
    write_dicom(tmp_path / "series", values, change=change, slope=1, intercept=0)
    source = open_images(tmp_path / "series")
    np.testing.assert_array_equal(source.read(2, 1)[0], values[::-1, ::-1, 2].T)
    assert source.orientation.startswith("slices in the order of InstanceNumber")


@pytest.mark.parametrize(
    ("values", "words"),
    [(body((20, 24, 10)).reshape(20, 24, 5, 2), "(20, 24, 5, 2)"), (body().astype(np.complex64), "complex64")],
)
def test_what_is_no_volume_of_magnitudes_is_refused(tmp_path, values, words):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "brain.nii")
    with pytest.raises(DataError, match=re.escape(words)):
        open_images(tmp_path / "brain.nii")


def test_an_hdf5_file_of_images_may_state_whom_it_shows(tmp_path):
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["images"] = np.ones((3, 16, 16)) + body((3, 16, 16)) / 1000
        file.attrs["patient_id"] = "p7"
    for made in simulate_images(tmp_path / "out", tmp_path / "stack.h5", **QUICK):
        with h5py.File(made) as file:
            assert file.attrs["patient_id"] == "p7"


def test_damaged_and_absent_ones_are_one_line(tmp_path):
    write_nifti(tmp_path / "brain.nii.gz", body())
    for name, content in (("cut.nii.gz", (tmp_path / "brain.nii.gz").read_bytes()[:300]), ("no.nii", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="damaged NIfTI file"):
            open_images(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files in the folder"):
        open_images(tmp_path / "empty")
    with pytest.raises(DataError, match="no such file"):
        open_images(tmp_path / "absent.nii")


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    write_nifti(tmp_path / "brain.nii", body())
    write_dicom(tmp_path / "series", body())
    monkeypatch.setattr("ssdtune.errors.find_spec", lambda name: None)
    for name, package in (("brain.nii", "nibabel"), ("series", "pydicom")):
        with pytest.raises(ConfigError, match=rf"{package} is missing.*pip install 'ssdtune\[images\]'"):
            open_images(tmp_path / name)
