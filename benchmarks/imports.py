"""Who imports whom, and a hash of the code that a benchmark measures."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Container, Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ssdtune", "benchmarks")
DATA = (".npz", ".h5", ".toml")

Graph = Mapping[str, set[str]]


def read_sources(root: Path = ROOT) -> dict[str, str]:
    """The text of every module of the package and of the benchmarks, by dotted name; and by its path a hash of every
    file of data that the package brings along, such as the mapper."""
    files = (path for package in PACKAGES for path in sorted((root / package).rglob("*.py")))
    data = (path for path in sorted((root / PACKAGES[0]).rglob("*")) if path.suffix in DATA)
    found = {module_name(path.relative_to(root)): path.read_text() for path in files}
    return found | {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in data}


def module_name(path: Path) -> str:
    """``ssdtune.mri`` of ssdtune/mri/__init__.py."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """The modules among ``sources`` that each of them imports, wherever in its file it does so.

    Imports for type checking alone do not count.
    """
    return {name: imported(text, sources.keys()) for name, text in sources.items()}


def imported(text: str, modules: Container[str]) -> set[str]:
    found: set[str] = set()
    for module, names in _imports(text):
        inner = {f"{module}.{name}" for name in names}
        found |= {name if name in modules else module for name in inner} or {module}
    return {name for name in found if name in modules}


def named(text: str, modules: Container[str]) -> set[str]:
    """Modules that are named in strings, alone or as ``module:Name``: what tables import when it is asked for."""
    return {name for word in _words(text) if (name := word.partition(":")[0]) in modules}


def reachable(graph: Graph, start: str) -> set[str]:
    """What a module imports, itself or through others; itself only if it is on a circle."""
    found: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found


def code_hash(benchmark: str, sources: Mapping[str, str]) -> str:
    """Of every module of the package that a benchmark imports, itself or through others; empty for no such benchmark.

    Comments and docstrings do not count. Modules that a table names are imported by whoever imports the table. With a
    module go the files of data that it names.
    """
    measured: set[str] = set()
    left = [name for name in sources if f"{name}.".startswith(f"benchmarks.{benchmark}.")]
    while left:
        measured.add(name := left.pop())
        left += (imported(sources[name], sources.keys()) | named(sources[name], sources.keys())) - measured - {*left}
    package = [name for name in sorted(measured) if name.split(".")[0] == "ssdtune"]
    parts = [f"{name}\n{code_of(sources[name])}" for name in package]
    strings = set().union(*(_strings(sources[name]) for name in package)) if package else set()
    parts += [f"{name}\n{sources[name]}" for name in sorted(sources) if name.rpartition("/")[2] in strings]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12] if measured else ""


@cache
def code_of(text: str) -> str:
    """The lines of a source without its comments, docstrings and empty lines."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            first = node.body[0]
            assert first.end_lineno is not None
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


@cache
def _imports(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """(module, names from it) of each import."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, tuple(alias.name for alias in node.names)))
    return found


def _words(text: str) -> set[str]:
    return {value for value in _strings(text) if value.startswith(PACKAGES)}


@cache
def _strings(text: str) -> set[str]:
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return {node.value for node in nodes if isinstance(node.value, str)}


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that a type checker alone reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node = ast.Module(node.orelse, [])
        yield node
        yield from _statements(node)
