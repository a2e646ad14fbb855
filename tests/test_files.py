"""Files are written whole or not at all."""

import numpy as np
import pytest

from ssdtune.errors import DataError, ModelError
from ssdtune.files import atomic_path, content_hash, new_hdf5


def test_success_renames(tmp_path):
    with atomic_path(tmp_path / "deep" / "file.txt") as path:
        path.write_text("new")
    assert (tmp_path / "deep" / "file.txt").read_text() == "new"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["file.txt"]


def test_failure_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "file.txt") as path:
        path.write_text("half")
        raise RuntimeError
    assert (tmp_path / "file.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_an_os_error_becomes_the_error_asked_for(tmp_path):
    (tmp_path / "blocker").write_text("")
    with pytest.raises(ModelError, match="cannot write"), atomic_path(tmp_path / "blocker" / "x.pt", ModelError):
        pass
    with pytest.raises(DataError, match="No space left"), atomic_path(tmp_path / "y"), open("/dev/full", "w") as full:
        full.write("x" * 10_000)


def test_content_hash_counts_boundaries_and_order():
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])
    assert content_hash(["a", b"b"]) == content_hash([b"a", "b"])


def test_a_full_disk_is_a_plain_os_error_in_hdf5_too(tmp_path, small_disk):
    with small_disk(20_000), pytest.raises(OSError, match="File too large"), new_hdf5(tmp_path / "a.h5") as file:
        file["x"] = np.ones(10_000)
    with pytest.raises(FileNotFoundError, match="No such file"), new_hdf5(tmp_path / "absent" / "a.h5"):
        pass
    with pytest.raises(RuntimeError, match="another matter"), new_hdf5(tmp_path / "a.h5"):
        raise RuntimeError("another matter")
