"""The wheel holds what an installation needs and nothing else, and works where nothing of the repository is."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import ssdtune
from ssdtune.prior.experience import BUNDLED, BUNDLED_SHA256
from ssdtune.prior.mapper import SpectrumMapper

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
        "--no-build-isolation",  # the environment's setuptools, which need not be installed once more
        "--disable-pip-version-check",
        "--wheel-dir",
    ]
    subprocess.run([*command, str(out), str(source)], check=True, capture_output=True)
    (found,) = out.glob("ssdtune-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """``installed(folder, line, ...)``: commands of the wheel, unpacked beside this environment's dependencies."""
    home = tmp_path_factory.mktemp("home")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    code = "import sys, ssdtune, ssdtune.cli; assert ssdtune.__file__.startswith(sys.argv[1])\n"
    code += "for words in sys.argv[2:]: ssdtune.cli.main(words.split())"
    environment = {**os.environ, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}

    def run(folder, *commands):
        command = [sys.executable, "-c", code, str(home), *commands]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return run


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
    for line in ("Classifier: Typing :: Typed", "License-Expression: MIT", "License-File: LICENSE", "Author: "):
        assert line in about
    assert "License-File: ssdtune/prior/data/README.md" in about  # where the data that ship come from
    for name in ("Repository", "Documentation", "Changelog", "Issues"):
        assert f"Project-URL: {name}, https://" in about
    assert "](docs/" not in about  # the README that an index shows


@pytest.fixture(scope="module")
def said(installed, tmp_path_factory):
    """What an installation says; the last command wants what is left out of it."""
    return installed(tmp_path_factory.mktemp("elsewhere"), "prior show --json", "study methods", "prior evaluate")


def test_the_collection_that_is_left_out_is_named_by_its_hash(said):
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() == BUNDLED_SHA256
    assert BUNDLED_SHA256 in BUNDLED.with_name("README.md").read_text()
    assert SpectrumMapper.load().experience["collection"] == BUNDLED_SHA256
    assert said.returncode == 3
    assert BUNDLED_SHA256 in said.stderr and "--collection" in said.stderr and len(said.stderr.splitlines()) == 1


def test_an_installation_predicts_and_lists_its_methods(said):
    assert '"tasks": 153' in said.stdout and "spectral" in said.stdout


def test_an_environment_with_the_wheel_has_the_demo(wheel, tmp_path):
    """Installed by pip into an environment of its own, which borrows the dependencies of this one.

    The demo takes minutes, so it is stopped once it has written its first scan.
    """
    place = tmp_path / "environment"
    venv.create(place, with_pip=False)
    into = [
        "--python",
        str(place / "bin" / "python"),
        "install",
        "--no-deps",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    subprocess.run([sys.executable, "-m", "pip", *into, str(wheel)], check=True, capture_output=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started = subprocess.Popen(
        [place / "bin" / "ssdtune", "demo", "--device", "cpu"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 120
        while not any(tmp_path.glob("demo/data/brain/*.h5")):
            assert started.poll() is None and time.monotonic() < end
            time.sleep(0.2)
    finally:
        started.terminate()
        started.wait()
    assert (tmp_path / "demo" / "study.toml").exists()


def test_one_place_for_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "ssdtune.__version__"}
