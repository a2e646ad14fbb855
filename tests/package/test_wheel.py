"""The wheel holds what an installation needs and nothing else, and works where nothing of the repository is."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ssdtune
from ssdtune.prior.experience import BUNDLED, BUNDLED_SHA256

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the sources, so that nothing is left in the tree."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "ssdtune", source / "ssdtune", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--wheel-dir",
    ]
    subprocess.run([*command, str(out), str(source)], check=True, capture_output=True)
    (found,) = out.glob("ssdtune-*.whl")
    return found


def test_its_content(wheel):
    assert wheel.stat().st_size < 8e6
    assert wheel.name.startswith(f"ssdtune-{ssdtune.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        about = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    for needed in ("py.typed", "prior/data/mapper.npz", "prior/data/README.md", "cli/demo.toml"):
        assert f"ssdtune/{needed}" in names
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ssdtune").rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ssdtune" / "report" / "templates").iterdir()}
    assert sources | templates <= set(names)
    assert not [name for name in names if re.search(r"(^|/)(tests|benchmarks|docs)/|\.(db|h5|pyc)$", name)]
    assert "Classifier: Typing :: Typed" in about and "License-File: LICENSE" in about


def test_the_collection_that_is_left_out_is_named_by_its_hash(wheel, tmp_path):
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() == BUNDLED_SHA256
    assert BUNDLED_SHA256 in BUNDLED.with_name("README.md").read_text()
    done = installed(wheel, tmp_path, "prior", "evaluate")
    assert done.returncode == 3
    assert BUNDLED_SHA256 in done.stderr and "--collection" in done.stderr and len(done.stderr.splitlines()) == 1


def test_an_installation_predicts_and_lists_its_methods(wheel, tmp_path):
    assert '"tasks": 158' in installed(wheel, tmp_path, "prior", "show", "--json").stdout
    assert "spectral" in installed(wheel, tmp_path, "study", "methods").stdout


def installed(wheel, folder, *words):
    """The command line of the wheel, unpacked beside the dependencies of this environment."""
    home = folder / "home"
    if not home.exists():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(home)
    code = (
        "import ssdtune, sys; assert ssdtune.__file__.startswith(sys.argv.pop(1)); from ssdtune.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(home), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_one_place_for_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ssdtune.__version__"}
