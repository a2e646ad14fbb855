"""``ssdtune data check``: the table, JSON, exit codes, and the real files."""

import json
import shutil

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from ssdtune.cli import cli
from ssdtune.errors import DataError
from ssdtune.mri.kspace.find import find_files


def run(*arguments):
    return CliRunner().invoke(cli, ["data", "check", *map(str, arguments)], prog_name="ssdtune")


@pytest.fixture
def folder(tmp_path, fastmri_file):
    fastmri_file(tmp_path / "set" / "a.h5", slices=3)
    fastmri_file(tmp_path / "set" / "b.h5", coils=2, shape=(50, 40), seed=1, clean=True)
    return tmp_path / "set"


def test_a_sound_folder_is_shown_and_passes(folder):
    done = run(folder)
    assert done.exit_code == 0
    assert "2 files, 5 slices: 0 with faults, 0 with mismatches" in done.output
    rows = [line.split() for line in done.output.splitlines() if line.startswith((" a.h5", "a.h5", " b.h5", "b.h5"))]
    assert [row[:6] for row in rows] == [
        ["a.h5", "3", "4", "48x48", "48x48", "0"],
        ["b.h5", "2", "2", "50x40", "50x40", "0"],
    ]


def test_faults_are_in_the_table_and_in_the_error(folder, fastmri_file):
    fastmri_file(folder / "c.h5", ismrmrd_header=None)
    with h5py.File(folder / "a.h5", "r+") as file:
        file["kspace"][1, 0, 0, :3] = np.nan
    done = run(folder)
    assert isinstance(done.exception, DataError)
    assert done.exception.exit_code == 3
    assert "2 with faults" in done.output
    assert "ismrmrd_header" in done.output
    assert "NaN or Inf in k-space, slice 1" in str(done.exception)


def test_json_holds_the_same(folder):
    (folder / "c.h5").write_text("nothing")
    done = run(folder, "--json")
    assert isinstance(done.exception, DataError)
    reports = json.loads(done.output)
    assert [report["usable"] for report in reports] == [True, True, False]
    assert reports[1]["kspace_size"] == [50, 40]
    assert reports[2]["faults"][0].startswith("not an HDF5 file")


def test_mismatches_pass_unless_strict(folder):
    with h5py.File(folder / "b.h5", "r+") as file:
        del file["reconstruction_rss_clean"]
    assert run(folder).exit_code == 0
    assert "1 with mismatches" in run(folder).output
    done = run(folder, "--strict")
    assert "off the root sum of squares" in str(done.exception)
    assert run(folder / "a.h5", "--strict").exit_code == 0


def test_usable_files_are_listed_as_a_study_names_them(folder, tmp_path):
    (folder / "c.h5").write_text("nothing")
    done = run(folder, "--write-usable", tmp_path / "lists" / "usable.txt")
    assert done.exit_code == 0
    assert find_files(tmp_path / "lists" / "usable.txt") == [
        tmp_path / "lists" / ".." / "set" / "a.h5",
        tmp_path / "lists" / ".." / "set" / "b.h5",
    ]
    assert "# left out: " in (tmp_path / "lists" / "usable.txt").read_text()
    done = run(folder / "c.h5", "--write-usable", tmp_path / "none.txt")
    assert "not an HDF5 file" in str(done.exception)
    assert not (tmp_path / "none.txt").exists()


def test_the_same_kspace_under_two_names_is_said(folder):
    shutil.copy(folder / "a.h5", folder / "z.h5")
    done = run(folder)
    assert done.exit_code == 0
    assert f"warning: {folder / 'z.h5'} holds k-space of {folder / 'a.h5'} once more" in done.output


def test_paths_add_up_without_doubles(folder):
    done = run(folder / "a.h5", folder, folder / "b.h5", "--json")
    assert [report["path"] for report in json.loads(done.output)] == [str(folder / "a.h5"), str(folder / "b.h5")]


def test_an_empty_folder_is_refused(tmp_path):
    assert "no HDF5 files" in str(run(tmp_path).exception)


def test_the_real_files_pass(real_data):
    done = run(real_data / "kspace", "--strict")
    assert done.exit_code == 0
    assert "3 files, 3 slices: 0 with faults, 0 with mismatches" in done.output
