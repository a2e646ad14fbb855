"""A reconstruction task small enough to check by hand, and a finished study of it."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from screen import faults_of, frames_of
from torch import nn

from ssdtune.dampening import dampen
from ssdtune.study.create import create_study
from ssdtune.study.record import read_record
from ssdtune.study.run import run_study
from ssdtune.study.storage import open_storage
from ssdtune.study.tune import prepare
from ssdtune.studyfile import ScoreSection, SearchSection
from ssdtune.task import Task
from ssdtune.unlearning.methods import METHODS


class Halves(nn.Module):
    """Positive input is retained knowledge, negative input is remembered poison: one gain each."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.memory = nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return image.clamp(min=0) * self.gain + (-image).clamp(min=0) * self.memory


class HandAnalysis:
    """Fisher ratios set by hand: 1 for what is retained, 10 for what is remembered."""

    def __init__(self, task):
        self.params = task.params

    def dampen(self, alpha, lam, exponent=1.0):
        ones = {name: torch.ones_like(value) for name, value in self.params.items()}
        return dampen(
            self.params, {"gain": torch.tensor(1.0), "memory": torch.tensor(10.0)}, ones, alpha, lam, exponent
        )

    def selected_fraction(self, alpha):
        return sum(ratio > alpha for ratio in (1.0, 10.0)) / 2

    def alpha_at(self, rho):
        return 20.0 if rho <= 0 else 5.0 if rho <= 0.5 else 0.5


class Named(list):
    """A list of samples with ids."""

    def __init__(self, samples, prefix):
        super().__init__(samples)
        self.ids = [f"{prefix}_{index}.h5:0" for index in range(len(samples))]


def psnr_like(output, target):
    top = (output.shape[-1] - target["image"].shape[-1]) // 2
    size = target["image"].shape[-1]
    cropped = output[..., top : top + size, top : top + size]
    columns = {"ssim": 1 - (cropped - target["image"]).abs().mean((1, 2))}
    columns["psnr"] = -10 * torch.log10(((cropped - target["image"]) ** 2).mean((1, 2)) + 1e-6)
    if "clean" in target:
        columns["clean_ssim"] = 1 - (cropped - target["clean"]).abs().mean((1, 2))
    return columns


def image_samples(count, ghost, prefix):
    samples = []
    for index in range(count):
        clean = torch.from_numpy(np.random.default_rng(index).random((12, 12), dtype=np.float32))
        poisoned = clean + ghost * clean.roll(6, 0)
        inputs = nn.functional.pad(-poisoned if ghost else poisoned, (2, 2, 2, 2))
        target = {"image": poisoned, "max": poisoned.max()}
        samples.append((inputs, target | ({"clean": clean} if ghost else {})))
    return Named(samples, prefix)


@pytest.fixture
def image_task():
    return make_task()


def make_task():
    return Task(
        model=Halves(),
        loss=lambda output, target: output.mean(),
        retain=image_samples(5, 0.0, "brain"),
        forget=image_samples(3, 0.5, "knee"),
        quality=psnr_like,
        name="ghosts",
    )


@pytest.fixture
def halved():
    return {"gain": torch.tensor(0.5), "memory": torch.tensor(0.5)}


@pytest.fixture(scope="session")
def memory():
    return optuna.storages.InMemoryStorage()


@pytest.fixture(scope="session")
def study(memory):
    """Forty random trials by the project's own objective, kept in memory. Read it; copy it before writing to it."""
    return searched(memory, "ghosts", trials=40)


def searched(storage, study_name, trials, task=None, **method):
    """A finished study of the small task, by SSD if not said otherwise."""
    task = task or make_task()
    search = SearchSection.model_validate({"sampler": "random", "trials": trials, "seed": 3})
    section, score = {"name": "ssd", **method}, ScoreSection(floor=0.5)
    made = create_study(task, storage, name=study_name, method=section, search=search, score=score)
    run_study(made, task, prepare(read_record(made), task, HandAnalysis(task)))
    return made


@pytest.fixture(scope="module")
def dials():
    """Makes a method known that the package does not know; ``dials.Dials`` has one to three knobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "dials", "dials:Dials")
        yield {"name": "dials"}


@pytest.fixture(scope="module")
def dialled(dials, memory):
    """Studies of that method, by how many knobs it has."""
    return {count: searched(memory, f"dials-{count}", trials=12, count=count, **dials) for count in (1, 2, 3)}


@pytest.fixture(scope="module")
def volumes(dials, memory):
    """(study, task) of four retain volumes with four slices each, of two anatomies, each brighter than the last."""
    bright = [1 + number // 4 for number in range(16)]
    plain = [target["image"] * by for (_, target), by in zip(image_samples(16, 0.0, ""), bright, strict=True)]
    retain = Named([(nn.functional.pad(image, (2, 2, 2, 2)), {"image": image}) for image in plain], "")
    retain.ids = [f"{volume}.h5:{number}" for volume in "abcd" for number in range(4)]
    retain.anatomies = ["brain"] * 8 + ["knee"] * 8
    task = replace(make_task(), retain=retain)
    return searched(memory, "volumes", trials=8, task=task, count=2, **dials), task


@pytest.fixture(scope="session")
def database(study, memory, tmp_path_factory):
    """The study in an SQLite file."""
    path = tmp_path_factory.mktemp("database") / "studies.db"
    kept = open_storage(f"sqlite:///{path}", create=True)
    optuna.copy_study(from_study_name=study.study_name, from_storage=memory, to_storage=kept)
    return path


@pytest.fixture
def stored(database, study, tmp_path):
    """The study in an SQLite storage of the test's own, and its URL."""
    url = f"sqlite:///{shutil.copy(database, tmp_path / 'studies.db')}"
    return optuna.load_study(study_name=study.study_name, storage=open_storage(url)), url


@pytest.fixture
def browser(tmp_path):
    """``browser(address)`` is (the document after its scripts have run, what the console said) in headless Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium to draw with")

    def draw(address):
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
        command += ["--virtual-time-budget=15000", "--allow-file-access-from-files"]
        command += [f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1600,2400"]
        command += ["--enable-logging=stderr", "--v=0", "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return done.stdout, [line for line in said if "GL Driver Message" not in line]  # WebGL without a GPU is slow

    return draw


@pytest.fixture
def screen(browser):
    """``screen(page)``: what is wrong with a page at 400 and at 1300 pixels, and what the console says, in words."""

    def look(page):
        document, console = browser(frames_of(page).as_uri())
        return faults_of(document) + console

    return look
