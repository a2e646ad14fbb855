"""Bad places as a user meets them: studies, storages, folders, disks and devices; see test_bad_input.py."""

import contextlib
import sqlite3
import tempfile
from pathlib import Path

import pytest

from ssdtune.cli import main

USAGE, FILE, STORAGE = 2, 3, 4
CREATE = "study create study.toml --name new"
TRAIN = "train study.toml --out new.pt"
APPLY = "study apply small --out new.pt"
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
        ("sqlite:///a?b.db", ("a ? in it begins options", "write ? in a path as %3F")),
    ],
    ids=["no URL", "no folder", "no database", "folder", "in memory", "question mark"],
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


@pytest.fixture
def reported(place):
    """A report was written before: nobody may be unable to read the modules that it imports."""
    main(["report", "small", "--no-inputs", "--out", "before.html"])
    with sqlite3.connect(place / "ssdtune.db") as database:  # so that there is something to write again
        database.execute("delete from study_system_attributes where key like '%dashboard%'")


def test_a_report_on_a_database_that_cannot_be_written_is_written_elsewhere(reported, locked, capsys):
    capsys.readouterr()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        main(["report", "small", "--no-inputs", "--out", str(page)])
        assert page.exists()
    captured = capsys.readouterr()
    assert "report: " in captured.out
    (line,) = [line for line in captured.err.splitlines() if "dashboard's note" in line]
    assert line.startswith("warning: ")
    assert "Permission denied" in line


@pytest.mark.parametrize(
    "command",
    [
        "study apply small --out model.pt/new",
        "spectrum study.toml --out model.pt/new",
        "spectrum study.toml --html model.pt/new",
        "spectrum study.toml --png model.pt/new",
        "report small --out model.pt/new",
        "study compete study.toml --out model.pt/new",
        "prior fit --out model.pt/new",
        "prior evaluate --html model.pt/new",
        "prior collect --out model.pt/new",
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_the_work(refused, command, monkeypatch):
    for work in (
        "ssdtune.mri.task.load_task",
        "ssdtune.learning.fit.fit",
        "ssdtune.learning.fit.hold_out",
        "ssdtune.learning.collect.collect",
    ):
        monkeypatch.setattr(work, pytest.fail)
    refused(command, FILE, ("cannot write (Not a directory)", "model.pt/new", "choose another --out"))


@pytest.mark.parametrize("command", [APPLY, TRAIN])
def test_a_full_disk_while_a_checkpoint_is_written(refused, small_disk, place, command):
    with small_disk((place / "model.pt").stat().st_size // 2):
        refused(command, FILE, ("cannot write (File too large)", "new.pt", "free space"))


@pytest.mark.parametrize("command", [CREATE, TRAIN, APPLY, "study run small", "spectrum study.toml", "demo"])
def test_a_cuda_device_that_is_not_there(refused, command):
    refused(f"{command} --device cuda:99", USAGE, ("no such cuda device", "cuda:99", "use another --device, e.g. cpu"))


def test_a_duplicate_study_name(refused):
    words = ("study 'small' exists already", "sqlite:///ssdtune.db", "choose another --name, or delete it first")
    refused("study create study.toml", STORAGE, words)
