"""Whether public docstrings say what a reader needs; ``make lint`` runs it beside ruff's rules that there are any.

Of every public function of the package: the errors that it raises itself, the shape of arrays that it takes or gives,
as ``(n, h, w)``, and the unit of what is measured in one (``UNITLESS`` by name). Of what ``import ssdtune`` offers, and
of the methods of its classes, also every parameter by name. Of every module of the table of methods and of every
corruption: its source. Shapes, units and sources may stand at the head of the class or the module.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARRAYS = re.compile(r"\b(?:Array|ArrayLike|Tensor|ndarray)\b")
SHAPE = re.compile(r"\((?:\.\.\.|[\w|*+/ .-]+)?,[^()]*\)|scalar|of the shape|as [`\w]")
UNITLESS = re.compile(
    r"(?:^|_)(?:time|timeout|duration|interval|wait|patience|age|memory|budget|cost|size|distance|length|angle|"
    r"amplitude|noise|rate|spacing|limit)$"
)
"""Parameters whose names leave open in what they are measured."""

UNIT = re.compile(
    r"second|minute|[GM]iB|byte|pass|pixel|mm\b|trial|slice|degree|radian|sample|step|decade|share|relative|line|unit",
    re.IGNORECASE,
)
SOURCE = re.compile(r"\bet al\.|arXiv|\b[Oo]urs?\b|(?:19|20)\d\d\b")
SOURCED = "mri/corruptions.py"  # features have theirs in their table
OPTUNA = {"sample_relative", "sample_independent", "after_trial"}  # whose parameters Optuna documents
Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(path: Path, offered: set[str]) -> Iterator[str]:
    """What is missing in a file, one line each; ``offered`` : names in it that are the public face."""
    tree = ast.parse(path.read_text())
    head = ast.get_docstring(tree) or ""
    for node in tree.body:
        if isinstance(node, Function):
            found = list(missing(node, head, node.name in offered))
        elif isinstance(node, ast.ClassDef):
            about, face = f"{ast.get_docstring(node) or ''}\n{head}", node.name in offered
            found = [line for part in node.body if isinstance(part, Function) for line in missing(part, about, face)]
        else:
            continue
        yield from (f"{path.relative_to(ROOT)}:{line}" for line in found)


def missing(function: Function, about: str, face: bool) -> Iterator[str]:
    """What the docstring of a function leaves out; ``about`` : those above it, in which it may stand as well."""
    if function.name.startswith("_") and function.name not in ("__init__", "__call__"):
        return
    if any("option" in ast.unparse(line) for line in function.decorator_list):
        return  # a command, whose docstring is its help
    text = f"{ast.get_docstring(function) or ''}\n{about}"
    where = f"{function.lineno}: {function.name}"
    for error in sorted(raised(function)):
        if error not in text:
            yield f"{where} raises {error} and does not say so"
    kinds = {name: ast.unparse(kind) if kind else "" for name, kind in parameters(function)}
    returns = ast.unparse(function.returns) if function.returns else ""
    public = not function.name.startswith("_")
    if public and any(map(ARRAYS.search, (*kinds.values(), returns))) and not SHAPE.search(text):
        yield f"{where} does not give the shapes of its arrays"
    for name, kind in kinds.items():
        measured = UNITLESS.search(name) and re.match(r"(?:float|int)\b", kind)
        if public and measured and not UNIT.search(text):
            yield f"{where} does not give the unit of '{name}'"
    if not face or function.name in OPTUNA:
        return
    if not text.strip():
        yield f"{where} has no docstring"
    for name in kinds:
        if name not in text:
            yield f"{where} does not say what '{name}' is"


def parameters(function: Function) -> Iterator[tuple[str, ast.expr | None]]:
    """Names and annotations of a function's parameters."""
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    yield from ((each.arg, each.annotation) for each in arguments if each.arg not in ("self", "cls"))


def sources(path: Path) -> Iterator[str]:
    """Whether a module that holds maths of others, or ours, says whose it is."""
    tree = ast.parse(path.read_text())
    faulty = [each for each in tree.body if isinstance(each, Function) and re.match("image|kspace", _first(each))]
    for node in faulty if path.as_posix().endswith(SOURCED) else [tree]:
        if not SOURCE.search(ast.get_docstring(node) or ""):
            name = node.name if isinstance(node, Function) else "the method"
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {name} gives no source"


def _first(function: Function) -> str:
    """The first parameter of a public function."""
    return next((name for name, _ in parameters(function)), "") if not function.name.startswith("_") else ""


def raised(function: Function) -> set[str]:
    """Names of the errors that a function raises itself, but for those that its own ``try`` around them catches."""
    return set(_errors(function, frozenset()))


def _errors(node: ast.AST, caught: frozenset[str]) -> Iterator[str]:
    """Of the ``raise`` statements in a node, without functions within it; ``caught`` : by a ``try`` around it."""
    if isinstance(node, ast.Raise):
        call = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if isinstance(call, ast.Name) and call.id.endswith("Error") and call.id not in caught:
            yield call.id
        return
    tried = node.body if isinstance(node, ast.Try) else []
    named = {each.type.id for each in node.handlers if isinstance(each.type, ast.Name)} if tried else set()
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda):
            yield from _errors(child, caught | named if child in tried else caught)


def main() -> None:
    """Print what is missing; exit 1 if anything is."""
    sys.path.insert(0, str(ROOT))
    import ssdtune
    from ssdtune.unlearning.methods import METHODS

    offered: dict[str, set[str]] = {}
    for name, module in ssdtune._HOME.items():
        offered.setdefault(module, set()).add(ssdtune._NAMES.get(name, name))
    found = []
    for path in sorted((ROOT / "ssdtune").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found += faults(path, offered.get(module, set()))
        if path.as_posix().endswith(SOURCED) or any(place.startswith(f"{module}:") for place in METHODS.values()):
            found += sources(path)
    print("\n".join(found) or "public docstrings are complete")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
