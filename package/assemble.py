"""Assemble the OptunaHub package: ``python package/assemble.py OUT`` writes ``OUT/package/samplers/spectrum``.

The registry's packages stand alone. This one takes the modules of ssdtune that the sampler is made of along, as files
beside its ``__init__.py``; they need numpy, scipy and optuna. The result is formatted as the registry asks.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "package" / "samplers" / "spectrum"
IMPORT = re.compile(r"^from ssdtune\.([\w.]+) import", re.MULTILINE)
SORTED = {"force-single-line": "true", "force-sort-within-sections": "true", "order-by-type": "false"}
"""The registry's rules for imports."""


def modules(text: str, found: set[str]) -> set[str]:
    """Every module of ssdtune that a source text imports, those that they import included."""
    for name in IMPORT.findall(text):
        if name not in found:
            found.add(name)
            modules(path_of(name).read_text(), found)
    return found


def path_of(name: str) -> Path:
    """Where a module of ssdtune is; ``name`` without the package."""
    return ROOT / "ssdtune" / f"{name.replace('.', '/')}.py"


def beside(text: str) -> str:
    """The same with imports of ssdtune's modules from files beside it."""
    return IMPORT.sub(lambda match: f"from ._{match[1].replace('.', '_')} import", text)


def assemble(out: Path) -> Path:
    """Write the package below ``out``, replacing it; returns its folder."""
    folder = out / "package" / "samplers" / "spectrum"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("README.md", "LICENSE", "example.py"):
        shutil.copy(SOURCE / name, folder)
    start = (SOURCE / "__init__.py").read_text()
    (folder / "__init__.py").write_text(beside(start))
    for name in sorted(modules(start, set())):
        ast.parse(text := beside(path_of(name).read_text()))
        (folder / f"_{name.replace('.', '_')}.py").write_text(text)
    rules = [word for key, value in SORTED.items() for word in ("--config", f"lint.isort.{key}={value}")]
    ruff = [sys.executable, "-m", "ruff"]
    common = ["--isolated", "--quiet", "--line-length", "99", str(folder)]
    lines = ["--config", "lint.isort.lines-after-imports=2", "--config", "lint.isort.known-third-party=['optuna']"]
    subprocess.run([*ruff, "check", "--fix", "--select", "E4,E7,E9,F,I", *rules, *lines, *common], check=True)
    subprocess.run([*ruff, "format", *common], check=True)
    return folder


if __name__ == "__main__":
    print(assemble(Path(sys.argv[1])))
