"""A small real study for tests of commands on studies: its inputs, and the same with its trials done."""

import shutil
from typing import NamedTuple

import pytest

from ssdtune.cli import main
from ssdtune.mri.varnet import build_model, save_new_model
from ssdtune.studyfile import TrainSection

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
