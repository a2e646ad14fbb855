"""Every command line, Python block and study file of the documentation works as it stands, on small scans."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

from ssdtune.cli import cli, main
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.studyfile import StudyFile, TrainSection

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
}
START = "docs/index.md"
SIZES = {"cascades": 1, "channels": 2, "pools": 2, "sens_channels": 2, "sens_pools": 2}
QUICK = '\n[search]\ntrials = 3\n[score]\nfloor = 0.0\nmin_retained = 0.0\n[method]\nname = "spectral"\nsteps = 1\n'

PARSED = (
    *("dashboard", "worker", "demo", "prior collect", "prior fit", "study compete", "study compare", "train"),
    *("data average", "data convert", "data simulate volumes", "data translate", "data classify", "study move"),
    *("data poison clean", "attack", "study create second", "study run second"),
)
"""Commands that serve until they are stopped, compute for minutes, or want other files: their words are checked."""


def blocks(page, language):
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGES[page], re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def commands(page):
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ssdtune ")]


def run_all(page, monkeypatch, folder):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SSDTUNE_STORAGE", raising=False)
    for words in commands(page):
        if "cuda" in words:
            words = words[: words.index("--device")] + words[words.index("--device") + 2 :]
        if " ".join(words).startswith(PARSED):
            parse(words)
            continue
        try:
            main(words)
        except SystemExit as stop:
            assert not stop.code, words


def parse(words):
    """Whether the command has these options and arguments."""
    command, context = cli, None
    while hasattr(command, "get_command"):
        context = command.make_context("ssdtune", [], resilient_parsing=True)
        command, words = command.get_command(context, words[0]), words[1:]
        assert command is not None
    command.make_context("ssdtune", list(words))


@pytest.fixture(scope="module")
def start(tmp_path_factory, fastmri_file):
    """What "Start here" asks for, small."""
    folder = tmp_path_factory.mktemp("docs")
    for place, name, seeds in (
        ("train", "brain_t1", range(4)),
        ("train", "knee_t1", range(4, 8)),
        ("val", "brain_t1", (9,)),
    ):
        for seed in seeds:
            shape = {"slices": 2, "coils": 2, "shape": (32, 32)}
            fastmri_file(folder / place / f"{name}_{seed:04}.h5", seed=seed, clean="knee" in name, **shape)
    (folder / "to_forget.txt").write_text("train/knee_t1_0004.h5\ntrain/knee_t1_0005.h5\n")
    save_new_model(folder / "varnet.ckpt", build_model(TrainSection(**SIZES)), {})
    (file,) = blocks(START, "toml")
    (folder / "mine.toml").write_text(file + QUICK)
    shutil.copy(folder / "mine.toml", folder / "study.toml")
    return folder


@pytest.fixture(scope="module")
def done(start, tmp_path_factory):
    """The same after "Start here"."""
    folder = shutil.copytree(start, tmp_path_factory.mktemp("docs") / "done")
    with pytest.MonkeyPatch.context() as patch:
        run_all(START, patch, folder)
    return folder


def test_start_here_leads_to_a_model_and_a_report(done):
    assert (done / "unlearned.ckpt").stat().st_size and "<html" in (done / "mine.html").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if page != START and commands(page)])
def test_command_lines(page, start, done, tmp_path, monkeypatch):
    begin = start if page == "README.md" else done  # README begins where "Start here" begins
    run_all(page, monkeypatch, shutil.copytree(begin, tmp_path / "own"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/") and blocks(page, "python")])
def test_python(page, start, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(start, tmp_path / "own"))
    exec(compile("\n".join(blocks(page, "python")), page, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")])
def test_study_files(page):
    whole = tomllib.loads(blocks(START, "toml")[0])
    for text in blocks(page, "toml"):
        found = tomllib.loads(text)
        if "project" not in found:  # an entry point of another package
            StudyFile.model_validate(whole | found)
