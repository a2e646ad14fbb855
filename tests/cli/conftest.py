"""A small real study for tests of commands on studies: its inputs, and the same with its trials done.

And for tests of bad input a sound folder, of which each test spoils a copy.
"""

import hashlib
import json
import shutil
from types import SimpleNamespace
from typing import NamedTuple

import click
import pytest
from outputs import VARIANTS, check_output

from ssdtune.cli import console, main
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.studyfile import TrainSection, load_study_file

SIZES = {"cascades": 1, "channels": 2, "pools": 2, "sens_channels": 2, "sens_pools": 2}
STUDY = """
name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
unknown = "unknown"
[score]
floor = 0.01
min_retained = 0.9
[search]
sampler = "tpe"
trials = 4
alpha = [0.5, 20.0]
lambda = [0.05, 5.0]
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """``run("list", ...)`` is ``ssdtune study list ...`` on a storage of its own."""
    monkeypatch.setenv("SSDTUNE_STORAGE", f"sqlite:///{tmp_path}/studies.db")

    def call(*arguments, group="study"):
        code = 0
        try:
            main([group, *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code or 0
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, fastmri_file):
    folder = tmp_path_factory.mktemp("inputs")
    for seed, name in enumerate(("retain", "forget", "unknown")):
        fastmri_file(folder / name / f"{name}.h5", slices=3, coils=2, shape=(32, 32), seed=seed, clean=seed > 0)
    save_new_model(folder / "model.pt", build_model(TrainSection(**SIZES)), {})
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture
def tiny_study(tmp_path, fastmri_file, monkeypatch):
    """``tiny_study(text, *names, clean=()) -> path``: a study file in the working folder, with a file a set."""

    def make(text, *names, clean=()):
        for seed, name in enumerate(names):
            out = tmp_path / name / f"{name}.h5"
            fastmri_file(out, slices=2, coils=2, shape=(32, 32), seed=seed, clean=name in clean)
        save_new_model(tmp_path / "model.pt", build_model(TrainSection(**SIZES)), {})
        (tmp_path / "study.toml").write_text(text)
        monkeypatch.chdir(tmp_path)
        return tmp_path / "study.toml"

    return make


@pytest.fixture
def study(inputs, tmp_path):
    """A study file with inputs of its own."""
    return shutil.copytree(inputs, tmp_path / "own") / "study.toml"


@pytest.fixture(scope="session")
def finished(inputs, tmp_path_factory):
    """A database with the finished study ``small``."""
    path = tmp_path_factory.mktemp("finished") / "studies.db"
    for arguments in (["create", str(inputs / "study.toml")], ["run", "small"]):
        main(["study", *arguments, "--storage", f"sqlite:///{path}"])
    return path


@pytest.fixture
def small(finished, run, tmp_path):
    """The finished study in the storage of ``run``."""
    shutil.copy(finished, tmp_path / "studies.db")
    return "small"


SOUND = """
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
    (folder / "study.toml").write_text(SOUND)
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


@pytest.fixture(autouse=True)
def _every_json_output_is_as_its_schema_says(monkeypatch):
    """Whatever any of these tests has a command print as JSON is checked."""
    monkeypatch.setattr(console, "json", SimpleNamespace(dumps=checked_dumps))


def checked_dumps(document, **options):
    context = click.get_current_context(silent=True)
    if context is not None:
        variant = next((f" --{name.replace('_', '-')}" for name in VARIANTS if context.params.get(name)), "")
        check_output(" ".join(context.command_path.split()[1:]) + variant, document)
    return json.dumps(document, **options)
