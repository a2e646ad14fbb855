"""Files are written whole or not at all."""

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ssdtune.errors import DataError, ModelError
from ssdtune.files import atomic_path, check_writable, content_hash, new_hdf5


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


def test_a_link_stays_a_link_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / "kept").mkdir()
    for name in ("there.txt", "not_there.txt"):
        link = tmp_path / name
        link.symlink_to(tmp_path / "kept" / name)
        if name == "there.txt":
            link.write_text("old")
        check_writable(link)
        with atomic_path(link) as path:
            path.write_text("new")
        assert link.is_symlink()
        assert (tmp_path / "kept" / name).read_text() == "new"


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(ModelError, match="a device or a pipe"):
            check_writable(tmp_path / name, error=ModelError)
        with pytest.raises(ModelError, match="a device or a pipe"), atomic_path(tmp_path / name, ModelError):
            pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("name", ["x" * 255, "\u6f22" * 85, "-o", "a b\n'\"", "~", "#"])
def test_any_name_of_a_file_can_be_written(tmp_path, name):
    with atomic_path(tmp_path / name) as path:
        path.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_content_hash_counts_boundaries_and_order():
    assert content_hash(["ab", "c"]) != content_hash(["a", "bc"])
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])
    assert content_hash(["a", b"b"]) == content_hash([b"a", "b"])


FULL = """
import resource, sys
import numpy as np
from ssdtune.files import new_hdf5
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    with new_hdf5(__import__("pathlib").Path(sys.argv[1])) as file:
        file["plain"] = np.ones(10_000)
        for name in "abc":
            file.create_dataset(name, data=np.random.rand(30_000), compression="lzf", fletcher32=True)
except OSError as reason:
    print(reason.strerror)
"""


def test_a_full_disk_is_one_os_error_in_hdf5_too(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path / "a.h5")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "File too large\n", "")


def test_other_errors_pass_through_hdf5(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file"), new_hdf5(tmp_path / "absent" / "a.h5"):
        pass
    with pytest.raises(RuntimeError, match="another matter"), new_hdf5(tmp_path / "a.h5"):
        raise RuntimeError("another matter")


def test_what_is_written_to_hdf5_is_read_back(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 1000))
    with new_hdf5(tmp_path / "a.h5") as file:
        file.create_dataset("x", data=values, compression="lzf", fletcher32=True)
        file.attrs["y"] = 3
        del file["x"]
        file["x"] = values
    with h5py.File(tmp_path / "a.h5") as file:
        assert np.array_equal(file["x"], values)
        assert file.attrs["y"] == 3
