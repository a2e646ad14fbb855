"""Every command line, Python block and study file of the documentation works as it stands, on small scans."""

import shutil
import tomllib

import numpy as np
import pytest
from doc_blocks import LANGUAGES, NOT_RUN, PAGES, SCRIPT, accepts, blocks, commands, kinds, lines, spoken, unfenced

from ssdtune.cli import main
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.prior import experience
from ssdtune.prior.experience import Experience, load_collection, save_collection
from ssdtune.report import comparison_page
from ssdtune.studyfile import StudyFile, TrainSection

START = "docs/index.md"
SIZES = {"cascades": 1, "channels": 2, "pools": 2, "sens_channels": 2, "sens_pools": 2}
QUICK = '\n[search]\ntrials = 3\n[score]\nfloor = 0.0\nmin_retained = 0.0\n[method]\nname = "spectral"\nsteps = 1\n'
SITE = ("docs/", "README.md")
"""Pages whose commands begin where "Start here" begins or ends; the others are tested beside what they are about."""


def run_all(page, monkeypatch, folder, after=lambda words: None):
    """Run a page's commands; ``after`` each is called with its words."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SSDTUNE_STORAGE", raising=False)
    for words in commands(page):
        try:
            main(words)
        except SystemExit as stop:
            assert not stop.code, words
        after(words)


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


@pytest.fixture(scope="module")
def few_tasks(tmp_path_factory):
    """Four tasks of two families of those that ship."""
    chosen = {}
    for record in load_collection(experience.BUNDLED):
        families = [each.family for each in chosen.values()]
        if isinstance(record, Experience) and families.count(record.family) < 2:
            chosen[record.key] = record
        if len(chosen) == 4:
            break
    path = tmp_path_factory.mktemp("prior") / "experience.h5"
    save_collection(path, chosen.values())
    return path


def other_files(folder):
    """What "Bring data of other kinds" asks for."""
    pytest.importorskip("ismrmrd")
    pytest.importorskip("nibabel")
    from tests.mri.kspace import test_average, test_convert
    from tests.mri.phantom import test_sources

    for name in ("m4raw", "scanner", "bart"):
        (folder / name).mkdir()
    test_average.write_repetitions(folder / "m4raw" / "multicoil_train")
    test_convert.write_ismrmrd(folder / "scanner" / "scan.h5", test_convert.scan(slices=1))
    test_convert.write_bart(folder / "bart" / "kspace.cfl", test_convert.scan(slices=1))
    test_sources.write_nifti(folder / "brain.nii.gz", test_sources.body((24, 32, 14)))
    test_sources.write_dicom(folder / "dicom_series", test_sources.body((24, 32, 4)) % 4000)


def images(path):
    np.savez(path, **{f"{kind}_{part}": np.zeros(1, np.uint8) for kind in "xy" for part in ("train", "test")})


def test_start_here_leads_to_a_model_and_a_report(done):
    assert (done / "unlearned.ckpt").stat().st_size and "<html" in (done / "mine.html").read_text()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith(SITE) and page != START and commands(page)])
def test_command_lines(page, start, done, few_tasks, tmp_path, monkeypatch):
    begin = start if page == "README.md" else done  # README begins where "Start here" begins
    folder = shutil.copytree(begin, tmp_path / "own")
    monkeypatch.setattr(experience, "BUNDLED", few_tasks)
    monkeypatch.setattr(comparison_page, "write_side_by_side", lambda *_: {})  # tests/report draws them
    if page == "docs/howto/data.md":
        other_files(folder)
    if page == "docs/prior.md":
        for name in ("mnist", "cifar10"):
            images(folder / f"{name}.npz")

    def after(words):
        if words[:2] == ["prior", "collect"]:  # it collected none, so small is its setting here
            shutil.copy(few_tasks, folder / "mine.h5")

    run_all(page, monkeypatch, folder, after)


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


@pytest.mark.parametrize(("page", "line"), list(spoken()))
def test_commands_within_sentences_exist(page, line):
    assert accepts(line.replace("[", "").replace("]", "").split()) or "|" in line, page


@pytest.mark.parametrize("page", PAGES)
def test_nothing_else_is_left_out(page):
    """Every line of a shell block is run or in `NOT_RUN`; no command hides in a block of another kind."""
    assert kinds(page) <= LANGUAGES
    quiet = [*unfenced(page), *(line for block in blocks(page, "text") for line in block.splitlines())]
    assert not [line for line in quiet if line.startswith(("ssdtune ", "import ", "from ", "$ "))]
    for line in lines(page):
        assert line.startswith("ssdtune ") or any(mark in line for mark in NOT_RUN) or line in SCRIPT, line
