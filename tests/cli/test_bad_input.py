"""Bad input as a user meets it: one line that says what, where and what to do, its exit code, and nothing written.

One small sound study, which each test spoils in one way; the modules' own tests look at the same faults in depth.
"""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ssdtune.cli import main
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.studyfile import TrainSection

USAGE, FILE = 2, 3
CREATE = "study create study.toml --name new"
TRAIN = "train study.toml --out new.pt"


def edit_study(old, new):
    text = Path("study.toml").read_text()
    assert text.count(old) == 1
    Path("study.toml").write_text(text.replace(old, new))


def rewrite_kspace(path, change):
    with h5py.File(path, "r+") as file:
        kspace = file["kspace"][()]
        del file["kspace"]
        file["kspace"] = change(kspace)


def without_kspace(path):
    with h5py.File(path, "r+") as file:
        del file["kspace"]


def with_nan(kspace):
    kspace[1, 0, 3, 4] = np.nan
    return kspace


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_without_a_fault_the_study_is_created(place):
    main(CREATE.split())


LAYOUT = "store it as (slices, coils, ky, kx) complex64"
FILES = {
    "missing": (Path.unlink, "no such file", "check the path"),
    "truncated": (truncate, "damaged HDF5 file", "copy or download it again"),
    "no kspace": (without_kspace, "no 'kspace' dataset", LAYOUT),
    "wrong dtype": (lambda path: rewrite_kspace(path, np.abs), "k-space is float32, not complex64", LAYOUT),
    "wrong rank": (lambda path: rewrite_kspace(path, lambda k: k[None]), "k-space has 5 dimensions", LAYOUT),
    "NaN": (lambda path: rewrite_kspace(path, with_nan), "NaN or Inf in k-space, slice 1", "repair the file or leave"),
    "one slice": (lambda path: rewrite_kspace(path, lambda k: k[0, 0]), "2 dimensions, not 4 (single-coil: 3)", LAYOUT),
    "zero slices": (lambda path: rewrite_kspace(path, lambda k: k[:0]), "no slices", "leave the file out"),
}


@pytest.mark.parametrize("command", [CREATE, TRAIN, "data check forget/knee.h5"])
@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_cannot_be_used(refused, fault, command):
    spoil, what, todo = FILES[fault]
    spoil(Path("forget/knee.h5"))
    refused(command, FILE, (what, "forget/knee.h5", todo))


def test_a_list_that_names_an_absent_file(refused):
    Path("forget.txt").write_text("forget/knee.h5\nforget/gone.h5\n")
    edit_study("forget/knee.h5", "forget.txt")
    refused(CREATE, FILE, ("forget set: no such file", "forget/gone.h5", "forget.txt", "mend the list"))


@pytest.mark.parametrize("forget", ["retain/brain.h5", "forget/renamed.h5", "forget"])
def test_forget_and_retain_that_overlap(refused, forget):
    """The file itself, a copy under another name, and such a copy among sound files."""
    shutil.copy("retain/brain.h5", "forget/renamed.h5")
    edit_study("forget/knee.h5", forget)
    refused(CREATE, FILE, ("the retain and forget sets share 2 slices", "brain.h5:0", "take them out of one of the"))


@pytest.mark.parametrize(
    ("spec", "what", "todo"),
    [
        ("empty", "no HDF5 files", "name files that end in .h5"),
        ("empty.txt", "a list that names no files", "list one file name a line"),
        ("nothing_*.h5", "no HDF5 files", "name files that end in .h5"),
    ],
)
def test_an_empty_forget_set(refused, spec, what, todo):
    Path("empty").mkdir()
    Path("empty.txt").write_text("# nothing yet\n")
    edit_study("forget/knee.h5", spec)
    refused(CREATE, FILE, (f"forget set: {what}", spec, todo))


def test_a_folder_with_a_link_to_nothing(refused):
    """As an unplugged disk leaves it; the set would silently be a smaller one."""
    Path("forget/elbow.h5").symlink_to("/unplugged/elbow.h5")
    edit_study("forget/knee.h5", "forget")
    refused(CREATE, FILE, ("cannot read (No such file", "forget/elbow.h5", "check path"))


@pytest.mark.parametrize("command", [CREATE, "study compete study.toml --samplers tpe --seeds 1"])
def test_a_mapper_that_cannot_be_read(refused, command):
    edit_study('sampler = "random"', 'sampler = "random"\nmapper = "gone.npz"')
    refused(command, FILE, ("cannot read the mapper", "gone.npz", "make one: ssdtune prior fit"))


def test_a_memory_budget_that_nothing_fits_into(refused):
    edit_study("[score]", "[fisher]\nmemory_budget_gib = 1e-6\n[score]")
    refused(CREATE, USAGE, ("too little for", "parameters", "memory_budget", "give at least 0.04 GiB"))


def test_a_checkpoint_of_another_architecture(refused):
    save_new_model("model.pt", build_model(TrainSection(architecture="unet", channels=2, pools=2)), {})
    edit_study('checkpoint = "model.pt"', 'checkpoint = "model.pt"\narchitecture = "varnet"')
    refused(CREATE, FILE, ("holds a U-Net, not a VarNet", "model.pt", 'architecture = "unet"'))
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict(), "model.pt")
    refused(CREATE, FILE, ("neither a fastMRI VarNet nor a U-Net", "model.pt", "name another checkpoint"))


def test_a_truncated_checkpoint(refused):
    truncate(Path("model.pt"))
    refused(CREATE, FILE, ("truncated or damaged checkpoint", "model.pt", "copy or download it again"))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("sentinel",)


def test_a_pickle_that_would_run_code(refused, place):
    torch.save({**torch.load("model.pt"), "extra": Evil()}, "model.pt")
    refused(CREATE, FILE, ("would run code when loaded", "mkdir", "model.pt", "where you trust it"))
    assert not (place / "sentinel").exists()


@pytest.mark.parametrize("command", [CREATE, TRAIN, "spectrum study.toml"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("trials = 2", "trails = 2", ("unknown key 'search.trails'", "study.toml", "did you mean 'trials'?")),
        ("[score]", "[scores]", ("unknown key 'scores'", "study.toml", "did you mean 'score'?")),
        ("trials = 2", 'trials = "2"', ("'search.trials' = '2'", "study.toml", "valid integer")),
        ('"forget/knee.h5"', "7", ("'data.forget' = 7", "study.toml", "give a text")),
        ("min_retained = 0.0", "min_retained = 95", ("'score.min_retained' = 95", "study.toml", "or equal to 1")),
        ("trials = 2", "alpha = [9.0, 2.0]", ("'method.alpha' = [9.0, 2.0]", "study.toml", "must rise")),
    ],
    ids=["unknown key", "unknown section", "text for a number", "number for a text", "out of range", "falling range"],
)
def test_a_wrong_study_file(refused, old, new, words, command):
    edit_study(old, new)
    refused(command, USAGE, words)
