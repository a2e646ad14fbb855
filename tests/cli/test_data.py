"""`ssdtune data simulate` and `data poison`: files, summaries, JSON, and one line for what is wrong."""

import json
import shutil

import h5py
import pytest

from ssdtune.cli import data as module
from ssdtune.cli import main
from ssdtune.mri.corruptions import CORRUPTIONS, LEARNED
from ssdtune.mri.phantom.anatomy import CONTRASTS, FAMILIES

QUICK = ["--size", "32", "--slices", "1", "--coils", "2"]


@pytest.fixture
def ssdtune(capsys):
    """Runs the command line: ``ssdtune("data", ...) -> (exit code, stdout, stderr)``."""

    def run(*arguments):
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_choices_are_the_tables():
    assert tuple(FAMILIES) == module.ANATOMIES
    assert CONTRASTS == module.CONTRASTS
    assert (*CORRUPTIONS, *LEARNED) == module.KINDS


def test_simulate_then_poison(ssdtune, tmp_path):
    code, out, _ = ssdtune("data", "simulate", tmp_path / "clean", "--subjects", 4, *QUICK)
    assert code == 0
    assert "brain_t1_0000.h5 to brain_t1_0003.h5 (4)" in out
    code, out, _ = ssdtune(
        "data",
        "poison",
        tmp_path / "clean",
        "--out",
        tmp_path / "p",
        "--fraction",
        0.5,
        "--known",
        0.5,
        "--kind",
        "zipper",
    )
    assert code == 0
    assert "2 retain, 1 forget, 1 unknown" in out
    assert len(list((tmp_path / "p/poisoned").iterdir())) == 2


def test_json_is_the_only_output(ssdtune, tmp_path):
    _, out, _ = ssdtune("data", "simulate", tmp_path / "clean", "--subjects", 2, *QUICK, "--anatomy", "knee", "--json")
    assert json.loads(out)["files"] == ["knee_t1_0000.h5", "knee_t1_0001.h5"]
    _, out, _ = ssdtune("data", "poison", tmp_path / "clean", "--out", tmp_path / "p", "--fraction", 0.5, "--json")
    printed, stored = json.loads(out), json.loads((tmp_path / "p/manifest.json").read_text())
    assert printed.pop("folder") == str(tmp_path / "p")
    assert printed == stored


def test_rectangular_size_and_images(ssdtune, tmp_path):
    ssdtune("data", "simulate", tmp_path / "a", "--subjects", 1, "--size", "40x32", "--slices", 3, "--coils", 5)
    with h5py.File(tmp_path / "a/brain_t1_0000.h5") as file:
        assert file["kspace"].shape == (3, 5, 40, 32)
        images = file["reconstruction_rss"][()]
    with h5py.File(tmp_path / "real.h5", "w") as file:
        file["images"] = images
    code, _, _ = ssdtune("data", "simulate", tmp_path / "b", "--images", tmp_path / "real.h5", "--first", 1)
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["real_0001.h5", "real_0002.h5"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["simulate", "{}/o", "--size", "big"], 2, "size"),
        (["simulate", "{}/o", "--size", "2x3x4"], 2, "size"),
        (["simulate", "{}/o", "--size", "4"], 2, "size"),
        (["simulate", "{}/o", "--coils", "0"], 2, "coils"),
        (["simulate", "{}/o", "--noise", "nan"], 2, "noise"),
        (["simulate", "{}/o", "--anatomy", "heart"], 2, "heart"),
        (["simulate", "{}/o", "--images", "{}/no.h5", "--anatomy", "knee"], 2, "--images"),
        (["simulate", "{}/o", "--images", "{}/no.h5"], 3, "no such file"),
        (["poison", "{}/none", "--out", "{}/o"], 3, "none"),
        (["poison", "{}", "--out", "{}/o"], 3, "no HDF5 files"),
        (["poison", "{}", "--out", "{}/o", "--fraction", "2"], 2, "fraction"),
        (["poison", "{}", "--out", "{}/o", "--kind", "rust"], 2, "rust"),
        (["poison", "{}", "--out", "{}/o", "--kind", "cyclegan"], 2, "--model"),
        (["poison", "{}", "--out", "{}/o", "--kind", "blur", "--model", "{}/m.pt"], 2, "takes no model"),
        (["translate", "{}/none", "{}", "--out", "{}/m.pt"], 3, "none"),
        (["translate", "{}", "{}", "--out", "{}/m.pt", "--size", "66"], 2, "multiple of 4"),
        (["translate", "{}", "{}", "--out", "{}/m.png"], 2, "picture"),
        (["translate", "{}", "{}/none", "--out", "m.pt"], 3, "none"),
        (["translate", "{}", "{}", "--out", "m.pt"], 3, "no files in the folder"),
        (["classify", "{}", "{}", "--out", "m.pt"], 3, "put images there, or name another"),
        (["simulate", "{}/o", "--images", "{}"], 3, "no files in the folder"),
    ],
)
def test_what_is_wrong_is_one_line(ssdtune, tmp_path, arguments, code, message):
    done, out, err = ssdtune("data", *(argument.replace("{}", str(tmp_path)) for argument in arguments))
    assert done == code
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert message in err
    assert not list(tmp_path.iterdir())


def test_help_names_the_three_commands(ssdtune):
    _, out, _ = ssdtune("data", "--help")
    assert "simulate" in out
    assert "poison" in out


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    main(["data", "simulate", f"{folder}/healthy", "--subjects", "4", *QUICK])
    lesions = ["--out", f"{folder}/lesions", "--fraction", "1", "--kind", "lesion"]
    main(["data", "poison", f"{folder}/healthy", *lesions])
    return folder


@pytest.fixture
def domains(scans, tmp_path):
    """A folder of healthy slices and one of the same with lesions."""
    shutil.copytree(scans, tmp_path, dirs_exist_ok=True)
    return tmp_path / "healthy", tmp_path / "lesions/poisoned"


@pytest.mark.parametrize("command", ["translate", "classify"])
def test_two_domains_are_two_and_nothing_that_is_read_is_written_over(ssdtune, domains, tmp_path, command):
    healthy, lesions = domains
    (tmp_path / "copy").mkdir()
    for file in healthy.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    scan = next(lesions.iterdir())
    (tmp_path / "list.txt").write_text(f"lesions/poisoned/{scan.name}\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for one, other, out, words in (
        (healthy, tmp_path / "healthy/../copy", "m.pt", f"all its images are in {tmp_path}/healthy/../copy too"),
        (healthy, f"{healthy}/*0.h5", "m.pt", "name two domains"),
        (healthy, lesions, lesions / "m.pt", "would be in a folder that is read here, --out, "),
        (healthy, tmp_path / "list.txt", scan, "is read here, --out, name another file"),
        (healthy, tmp_path / "list.txt", tmp_path / "list.txt", "is read here, --out, "),
    ):
        code, out, err = ssdtune("data", command, one, other, "--out", tmp_path / out, "--size", 32, "--overwrite")
        assert code == 2 and words in err and err.count("\n") == 1 and not out, err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_translate_then_poison(ssdtune, domains, tmp_path):
    words = ["data", "translate", *domains, "--out", tmp_path / "t.pt", "--size", 32]
    words += ["--steps", 2, "--width", 2, "--blocks", 1]
    code, out, _ = ssdtune(*words, "--json")
    assert code == 0 and json.loads(out)["check"]["images"] == 1
    assert (tmp_path / "t.png").stat().st_size > 10_000 and not (tmp_path / "t.pt.resume").exists()
    code, _, err = ssdtune(*words)
    assert code == 2 and "--overwrite" in err
    poison = ["data", "poison", tmp_path / "healthy", "--out", tmp_path / "p", "--kind", "cyclegan"]
    code, out, _ = ssdtune(*poison, "--model", tmp_path / "t.pt", "--json")
    assert code == 0 and json.loads(out)["model"] == "t.pt"


def test_classify_then_poison(ssdtune, domains, tmp_path):
    words = [*domains, "--out", tmp_path / "c.pt", "--size", 32]
    code, out, _ = ssdtune("data", "classify", *words, "--epochs", 2, "--json")
    assert code == 0 and json.loads(out)["images"] == 2
    assert (tmp_path / "c.png").stat().st_size > 5000
    poison = ["data", "poison", tmp_path / "healthy", "--out", tmp_path / "p", "--kind", "adversarial"]
    code, out, _ = ssdtune(*poison, "--model", tmp_path / "c.pt", "--amplitude", 0.05, "--json")
    assert code == 0 and json.loads(out)["files"][0]["nmse"] > 0
