"""Bad input as a user meets it: one line that says what, where and what to do, its exit code, and nothing written.

One small sound study, which each test spoils in one way; the modules' own tests look at the same faults in depth.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ssdtune.cli import main
from ssdtune.mri.varnet import build_model, save_new_model
from ssdtune.studyfile import TrainSection, load_study_file

STUDY = """
name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget/knee.h5"
[score]
floor = 0.0
min_retained = 0.0
[search]
sampler = "random"
trials = 2
[train]
cascades = 1
channels = 2
pools = 2
sens_channels = 2
sens_pools = 2
epochs = 1
"""
USAGE, FILE, STORAGE = 2, 3, 4
CREATE = "study create study.toml --name new"
TRAIN = "train study.toml --out new.pt"
APPLY = "study apply small --out new.pt"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of Fisher analyses, so that each is made once; open to everybody."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSDTUNE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory, fastmri_file, cache):
    """A folder with a study file and all it names, and a storage in which the study ``small`` has run."""
    folder = tmp_path_factory.mktemp("sound")
    for seed, name in enumerate(("retain/brain.h5", "forget/knee.h5")):
        fastmri_file(folder / name, slices=2, coils=2, shape=(32, 32), seed=seed)
    (folder / "study.toml").write_text(STUDY)
    save_new_model(folder / "model.pt", build_model(load_study_file(folder / "study.toml").train), {})
    for arguments in (["create", str(folder / "study.toml")], ["run", "small"]):
        main(["study", *arguments, "--storage", f"sqlite:///{folder}/ssdtune.db"])
    return folder


@pytest.fixture
def place(sound, tmp_path, monkeypatch):
    """A copy of the sound folder, in which commands are then typed."""
    folder = shutil.copytree(sound, tmp_path / "place")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SSDTUNE_STORAGE", raising=False)
    return folder


@pytest.fixture
def refused(place, capsys):
    """``refused(command, code, (what, where, todo))``: it stops so, in one line, and leaves the folder as it was."""

    def check(command, code, words):
        capsys.readouterr()
        before = contents(place)
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        err = capsys.readouterr().err
        # a study of so few samples is warned of before its trials
        (line,) = [line for line in err.splitlines() if not line.startswith("warning: ")]
        assert line.startswith("error: ")
        rest = line
        for part in words:  # in this order
            assert part in rest, f"{part!r} is not in {rest!r} of {line!r}"
            rest = rest.partition(part)[2]
        assert stop.value.code == code
        assert contents(place) == before

    return check


def contents(folder):
    """Every file and folder with a hash of what it holds."""
    return {
        path.relative_to(folder): path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


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
    "single-coil": (lambda path: rewrite_kspace(path, lambda k: k[:, 0]), "3 dimensions (single-coil", LAYOUT),
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


@pytest.mark.parametrize("spec", ["empty", "empty.txt", "nothing_*.h5"])
def test_an_empty_forget_set(refused, spec):
    Path("empty").mkdir()
    Path("empty.txt").write_text("# nothing yet\n")
    edit_study("forget/knee.h5", spec)
    refused(CREATE, FILE, ("forget set: no HDF5 files", spec, "name files that end in .h5"))


def test_a_folder_with_a_link_to_nothing(refused):
    """As an unplugged disk leaves it; the set would silently be a smaller one."""
    Path("forget/elbow.h5").symlink_to("/unplugged/elbow.h5")
    edit_study("forget/knee.h5", "forget")
    refused(CREATE, FILE, ("cannot read (No such file", "forget/elbow.h5", "check path"))


@pytest.mark.parametrize("command", [CREATE, "study compete study.toml --samplers tpe --seeds 1"])
def test_a_mapper_that_cannot_be_read(refused, command):
    edit_study('sampler = "random"', 'sampler = "random"\nmapper = "gone.npz"')
    refused(command, FILE, ("cannot read the mapper", "gone.npz", "ssdtune prior fit makes one"))


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
    refused(CREATE, FILE, ("would run code when loaded", "mkdir", "model.pt", "save the model's state_dict() alone"))
    assert not (place / "sentinel").exists()


@pytest.mark.parametrize("command", [CREATE, TRAIN, "spectrum study.toml"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("trials = 2", "trails = 2", ("unknown key 'search.trails'", "study.toml", "did you mean 'trials'?")),
        ("[score]", "[scores]", ("unknown key 'scores'", "study.toml", "did you mean 'score'?")),
        ("trials = 2", 'trials = "2"', ("'search.trials' = '2'", "study.toml", "valid integer")),
        ('"forget/knee.h5"', "7", ("'data.forget' = 7", "study.toml", "valid string")),
        ("min_retained = 0.0", "min_retained = 95", ("'score.min_retained' = 95", "study.toml", "or equal to 1")),
        ("trials = 2", "alpha = [9.0, 2.0]", ("'search.alpha' = [9.0, 2.0]", "study.toml", "must rise")),
    ],
    ids=["unknown key", "unknown section", "text for a number", "number for a text", "out of range", "falling range"],
)
def test_a_wrong_study_file(refused, old, new, words, command):
    edit_study(old, new)
    refused(command, USAGE, words)


COMMANDS = [
    "run",
    "show",
    "best",
    "delete --yes",
    "apply --out n.pt",
    "export --out n.csv",
    "rescore --retain-weight 0.5",
]


@pytest.mark.parametrize("command", ["report", *(f"study {command}" for command in COMMANDS)])
def test_an_unknown_study(refused, command):
    refused(f"{command} smal", STORAGE, ("no study 'smal'", "sqlite:///ssdtune.db", "did you mean 'small'?"))


@pytest.mark.parametrize("command", [CREATE, "study run small", "study list", "report small", "dashboard"])
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("studies.db", ("not a storage URL", "studies.db", "give an SQLAlchemy URL such as sqlite:///ssdtune.db")),
        ("sqlite:///absent/studies.db", ("absent", "--storage")),
        ("sqlite:///study.toml", ("file is not a database", "study.toml", "give the URL of an Optuna database")),
        ("sqlite:///forget", ("forget", "--storage")),
        ("sqlite://", ("sqlite://", "--storage")),
    ],
    ids=["no URL", "no folder", "no database", "folder", "in memory"],
)
def test_a_storage_that_cannot_be_opened(refused, command, url, words):
    refused(f"{command} --storage {url}", STORAGE, words)


@pytest.fixture
def locked(place, sound, cache, unprivileged):
    """A user who may read the folder and not write into it."""
    modes = {path: 0o755 for path in (*place.parents, sound) if not path.stat().st_mode & 0o005}
    modes |= dict.fromkeys((cache, *cache.rglob("*")), 0o777) | {place: 0o555}
    with contextlib.ExitStack() as stack:
        for path, mode in modes.items():
            stack.callback(path.chmod, path.stat().st_mode)
            path.chmod(mode)
        stack.enter_context(unprivileged())
        yield


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("data simulate new --size 32 --subjects 1 --slices 1", FILE, ("(Permission denied)", "new", "another --out")),
        ("data poison retain --out new --fraction 1", FILE, ("(Permission denied)", "new", "choose another --out")),
        (TRAIN, FILE, ("(Permission denied)", "new.pt", "choose another --out")),
        (CREATE, STORAGE, ("readonly database", "sqlite:///ssdtune.db", "check the URL and its permissions")),
        (f"{CREATE} --storage sqlite:///n.db", STORAGE, ("no permission to write", "place", "another --storage")),
        ("study run small --trials 3", STORAGE, ("readonly database", "sqlite:///ssdtune.db", "permissions")),
        ("study delete small --yes", STORAGE, ("readonly database", "sqlite:///ssdtune.db", "permissions")),
        ("study export small --out n.csv", FILE, ("(Permission denied)", "n.csv", "choose another --out")),
        (APPLY, FILE, ("(Permission denied)", "new.pt", "choose another --out")),
    ],
)
def test_no_permission_to_write(refused, locked, command, code, words):
    refused(command, code, words)


@pytest.mark.parametrize("command", [APPLY, TRAIN])
def test_a_full_disk_while_a_checkpoint_is_written(refused, small_disk, place, command):
    with small_disk((place / "model.pt").stat().st_size // 2):
        refused(command, FILE, ("cannot write (File too large)", "new.pt", "free space"))


@pytest.mark.parametrize("command", [CREATE, TRAIN, APPLY, "study run small", "spectrum study.toml"])
def test_a_cuda_device_that_is_not_there(refused, command):
    refused(f"{command} --device cuda:99", USAGE, ("no such cuda device", "cuda:99", "use another --device, e.g. cpu"))


def test_a_duplicate_study_name(refused):
    words = ("study 'small' exists already", "sqlite:///ssdtune.db", "choose another --name, or delete it first")
    refused("study create study.toml", STORAGE, words)
