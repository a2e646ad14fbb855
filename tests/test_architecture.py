"""The house: imports run downward, `import ssdtune` stays light, files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ssdtune"
LIMIT = 300

# lowest floor first; a module may import from its own floor and from those below
FLOORS = [
    ["errors"],
    ["device", "files", "progress"],
    ["studyfile"],
    ["task"],
    ["mri", "vision"],
    ["dampening"],
    ["fisher"],
    ["objective"],
    ["plane"],
    ["surrogate"],
    ["prior"],
    ["learning"],
    ["samplers"],
    ["study"],
    ["report"],
    ["cli"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.update([node.module] if node.module != "ssdtune" else [f"ssdtune.{a.name}" for a in node.names])
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    rooms = {name.split(".")[1] for name in names if name.startswith("ssdtune.")}
    return rooms & FLOOR.keys()


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    direct = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return direct | named


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_file_keeps_to_its_floor_and_length(path):
    name = room(path)
    if name != "__init__":
        assert name in FLOOR, f"give {name} a floor"
        above = {other for other in imported_rooms(path) if FLOOR[other] > FLOOR[name]}
        assert not above, f"{path} imports upward: {above}"
    lines = path.read_text().count("\n")
    assert lines <= LIMIT, f"{path} has {lines} lines"
    assert "from __future__" in path.read_text() or lines == 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optuna_lives_in_samplers_and_above_only(path):
    packages = {name.split(".")[0] for name in imported_packages(path)}
    if room(path) in FLOOR and FLOOR[room(path)] < FLOOR["samplers"]:
        assert not packages & {"optuna", "optuna_dashboard", "optunahub", "plotly", "click"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_that_cannot_be_imported_everywhere_are_not(path):
    banned = ("fastmri.pl_modules", "torchmetrics", "pytorch_lightning", "torchvision", "optuna._")
    assert not [name for name in imported_packages(path) if name.startswith(banned)]


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("statement", ["import ssdtune", "import ssdtune.cli"])
def test_importing_is_light(statement):
    heavy = {"torch", "fastmri", "optuna", "numpy", "scipy", "h5py", "plotly", "pydantic", "matplotlib", "sqlalchemy"}
    assert not loaded_after(statement) & heavy


def test_help_of_every_command_is_light():
    heavy = {"torch", "fastmri", "optuna", "scipy", "h5py", "plotly", "matplotlib"}
    code = "from ssdtune.cli import cli, COMMANDS; [cli.get_command(None, name) for name in COMMANDS]"
    assert not loaded_after(code) & heavy
