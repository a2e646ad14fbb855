"""The house: imports run downward and in no circle, `import ssdtune` stays light, files stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.house import FLOOR, circles, package_files, package_graph, room, upward_imports
from benchmarks.imports import ROOT, module_name

LIMIT = 300
FILES = package_files()
GRAPH = package_graph()


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    direct = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return direct | named


def test_each_file_has_a_floor_and_keeps_to_its_length():
    for path in FILES:
        name = room(module_name(path.relative_to(ROOT)))
        assert not name or name in FLOOR, f"give {name} a floor"
        lines = path.read_text().count("\n")
        assert lines < LIMIT, f"{path} has {lines} lines"
        assert "from __future__" in path.read_text() or lines == 0, path


def test_imports_run_downward():
    assert not upward_imports(GRAPH)


def test_no_modules_import_each_other():
    assert not circles(GRAPH)


def test_circles_and_upward_imports_are_found(tmp_path):
    files = {
        "mri/masks.py": "def late():\n    from ssdtune.mri import floors\n",
        "mri/floors.py": "import ssdtune.mri.poison\nimport ssdtune.study.run\n",
        "mri/poison.py": "from typing import TYPE_CHECKING\nfrom ssdtune.mri.masks import late\n"
        "if TYPE_CHECKING:\n    from ssdtune.study.run import ask\nelse:\n    import ssdtune.errors\n",
        "study/run.py": "from ssdtune.errors import SsdtuneError\n",
        "errors.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "ssdtune" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    graph = package_graph(tmp_path)
    assert graph["ssdtune.mri.poison"] == {"ssdtune.mri.masks", "ssdtune.errors"}
    assert circles(graph) == [["ssdtune.mri.floors", "ssdtune.mri.masks", "ssdtune.mri.poison"]]
    assert upward_imports(graph) == [("ssdtune.mri.floors", "ssdtune.study.run")]


def test_optuna_lives_in_samplers_and_above_only():
    for path in FILES:
        packages = {name.split(".")[0] for name in imported_packages(path)}
        if FLOOR.get(room(module_name(path.relative_to(ROOT))), len(FLOOR)) < FLOOR["samplers"]:
            assert not packages & {"optuna", "optuna_dashboard", "optunahub", "plotly", "click"}, path


def test_modules_that_cannot_be_imported_everywhere_are_not():
    banned = ("fastmri.pl_modules", "torchmetrics", "pytorch_lightning", "torchvision", "optuna._")
    for path in FILES:
        assert not [name for name in imported_packages(path) if name.startswith(banned)], path


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
