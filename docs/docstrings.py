"""Whether public docstrings say what a reader needs; ``make lint`` runs it beside ruff's rules that there are any.

Of every public function of the package: the errors that it raises itself. Of what ``import ssdtune`` offers, and of the
methods of its classes, also: every parameter by name, and the shape of arrays, as ``(n, h, w)``.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARRAYS = ("Array", "Tensor", "ndarray")
OPTUNA = {"sample_relative", "sample_independent", "after_trial"}  # whose parameters Optuna documents
Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(path: Path, offered: set[str]) -> Iterator[str]:
    """What is missing in a file, one line each; ``offered`` : names in it that are the public face."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, Function):
            found = list(missing(node, "", node.name in offered))
        elif isinstance(node, ast.ClassDef):
            about, face = ast.get_docstring(node) or "", node.name in offered
            found = [line for part in node.body if isinstance(part, Function) for line in missing(part, about, face)]
        else:
            continue
        yield from (f"{path.relative_to(ROOT)}:{line}" for line in found)


def missing(function: Function, about: str, face: bool) -> Iterator[str]:
    """What the docstring of a function leaves out; ``about`` : that of its class, in which it may stand as well."""
    if function.name.startswith("_") and function.name not in ("__init__", "__call__"):
        return
    if any("option" in ast.unparse(line) for line in function.decorator_list):
        return  # a command, whose docstring is its help
    text = f"{ast.get_docstring(function) or ''}\n{about}"
    where = f"{function.lineno}: {function.name}"
    for error in sorted(raised(function)):
        if error not in text:
            yield f"{where} raises {error} and does not say so"
    if not face or function.name in OPTUNA:
        return
    if not text.strip():
        yield f"{where} has no docstring"
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    for name in (argument.arg for argument in arguments if argument.arg not in ("self", "cls")):
        if name not in text:
            yield f"{where} does not say what '{name}' is"
    returns = ast.unparse(function.returns) if function.returns else ""
    if any(kind in returns for kind in ARRAYS) and "(" not in text:
        yield f"{where} does not give the shape of what it returns"


def raised(function: Function) -> set[str]:
    """Names of the errors that a function raises itself."""
    calls = (node.exc.func if isinstance(node.exc, ast.Call) else node.exc for node in walk(function))
    return {call.id for call in calls if isinstance(call, ast.Name) and call.id.endswith("Error")}


def walk(node: ast.AST) -> Iterator[ast.Raise]:
    """The ``raise`` statements in a function, those of functions within it left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise):
            yield child
        elif not isinstance(child, Function | ast.Lambda):
            yield from walk(child)


def main() -> None:
    """Print what is missing; exit 1 if anything is."""
    sys.path.insert(0, str(ROOT))
    import ssdtune

    offered: dict[str, set[str]] = {}
    for name, module in ssdtune._HOME.items():
        offered.setdefault(module, set()).add(ssdtune._NAMES.get(name, name))
    found = []
    for path in sorted((ROOT / "ssdtune").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found += faults(path, offered.get(module, set()))
    print("\n".join(found) or "public docstrings are complete")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
