"""HDF5 files from elsewhere: what leads out of them or expands beyond measure is refused unread."""

import h5py
import numpy as np
import pytest

from ssdtune.errors import DataError
from ssdtune.files import opened_hdf5
from ssdtune.mri.kspace.check import check_file


def external_link(file, secret):
    del file["kspace"]
    file["kspace"] = h5py.ExternalLink(str(secret), "kspace")


def external_link_behind_a_soft_one(file, secret):
    del file["kspace"]
    file["kspace"] = h5py.SoftLink("/out/kspace")
    file["out"] = h5py.ExternalLink(str(secret), "/")


def virtual(file, secret):
    shape, dtype = file["kspace"].shape, file["kspace"].dtype
    del file["kspace"]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[:] = h5py.VirtualSource(str(secret), "kspace", shape, dtype)
    file.create_virtual_dataset("kspace", layout)


def external_storage(file, secret):
    shape = file["kspace"].shape
    del file["kspace"]
    file.create_dataset("kspace", shape, "c8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def bomb(file, secret):
    del file["kspace"]
    file.create_dataset("kspace", (20_000, 16, 640, 368), "c8", chunks=(1, 1, 640, 368), compression="gzip")


def huge_slice(file, secret):
    del file["kspace"]
    file.create_dataset("kspace", (1, 64, 100_000, 100_000), "c8", chunks=(1, 1, 64, 64))


def references(file, secret):
    file.create_dataset("more", (2,), h5py.ref_dtype)


def references_as_attribute(file, secret):
    file["kspace"].attrs.create("of", file["kspace"].ref, dtype=h5py.ref_dtype)


def region_of_the_file(file, secret):
    file.attrs.create("of", file["kspace"].regionref[0], dtype=h5py.regionref_dtype)


def references_in_a_record(file, secret):
    kind = np.dtype([("number", "f4"), ("of", h5py.ref_dtype)])
    file.create_group("more").attrs.create("of", np.array([(1, file.ref)], kind), dtype=kind)


def time_as_attribute(file, secret):
    h5py.h5a.create(file["kspace"].id, b"when", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((3,)))


def many_attributes(file, secret):
    for number in range(60):
        file["kspace"].attrs[f"a{number}"] = number


def many_groups(file, secret):
    for number in range(60):
        file.create_group(f"g{number}")


def time_type(file, secret):
    space = h5py.h5s.create_simple((3,))
    h5py.h5d.create(file.id, b"when", h5py.h5t.UNIX_D32LE, space)


CASES = {
    external_link: "is a link to another file",
    external_link_behind_a_soft_one: "is a link to another file",
    virtual: "is virtual and takes its data from another file",
    external_storage: "keeps its data in another file",
    bomb: "expands to",
    huge_slice: "GiB a slice",
    references: "holds object references",
    references_as_attribute: "'/kspace of' holds object references",
    region_of_the_file: "'/ of' holds object references",
    references_in_a_record: "'/more of' holds object references",
    time_as_attribute: "time type",
    many_attributes: "more than 50 attributes",
    time_type: "time type",
    many_groups: "more than 50 groups",
}


@pytest.mark.parametrize("spoil", CASES, ids=lambda spoil: spoil.__name__)
def test_it_is_refused_unread_in_one_line(fastmri_file, tmp_path, monkeypatch, spoil):
    monkeypatch.setattr("ssdtune.untrusted.MOST_OBJECTS", 50)
    secret = fastmri_file(tmp_path / "secret.h5", slices=1, coils=2, shape=(32, 32))
    path = fastmri_file(tmp_path / "scan.h5", slices=1, coils=2, shape=(32, 32))
    assert check_file(path).usable
    with h5py.File(path, "a") as file:
        spoil(file, secret)
    report = check_file(path)
    assert CASES[spoil] in report.faults[0][0]
    assert not report.kspace_ids
    with pytest.raises(DataError, match=CASES[spoil]), opened_hdf5(path):
        raise AssertionError("opened")


def test_a_file_with_groups_in_a_circle_and_links_within_is_sound(fastmri_file, tmp_path):
    path = fastmri_file(tmp_path / "scan.h5", slices=1, coils=2, shape=(32, 32))
    with h5py.File(path, "a") as file:
        group = file.create_group("more")
        group["again"] = group
        file["alias"] = h5py.SoftLink("/kspace")
        file["more/scan"] = file["kspace"]
        layout = h5py.VirtualLayout((2,), "f4")
        file["plain"] = np.zeros(2, "f4")
        layout[:] = h5py.VirtualSource(file["plain"])
        file.create_virtual_dataset("inner", layout)
    assert check_file(path).usable
