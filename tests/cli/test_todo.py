"""What errors say is to be done works: suggested commands run; options, extras, commands that are named exist."""

import ast
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path

import click
import h5py

from ssdtune.cli import cli, main

ROOT = Path(__file__).parents[2]
FOREIGN = {"--raw", "--mask"}
"""Options of other programs that messages name."""


@cache
def strings():
    """Every piece of text in the package's sources, with its file; not docstrings."""
    found = []
    for path in (ROOT / "ssdtune").rglob("*.py"):
        tree = ast.parse(path.read_text())
        said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said)
        found += [(path, node.value) for node in constants if isinstance(node.value, str)]
    return found


def options(command=cli):
    """Every option of every command."""
    found = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= options(command.get_command(context, name))
    return found


def test_every_option_that_is_named_exists():
    known = options() | FOREIGN | {"--help", "--version", "--debug"}
    for path, text in strings():
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) <= known, (path.name, text)


def test_every_command_that_is_named_exists():
    for path, text in strings():
        for group, name in re.findall(r"\bssdtune (data|study|prior|storage) ([a-z]+)", text):
            found = cli.get_command(click.Context(cli), group)
            assert found.get_command(click.Context(found), name) is not None, (path.name, text)


def test_every_extra_that_is_named_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for _, text in strings() for name in re.findall(r"ssdtune\[(\w+)\]", text)}
    assert named and named <= set(extras)


CASES = {
    "another study": ("study show quite_another", "", 0),
    "a name that is taken": ("study create study.toml", " --yes", 0),
    "nothing has run": ("study best fresh", "", 0),
    "the same on another storage": ("study best fresh --storage sqlite:///other.db", "", 0),
    "nothing to search": ("study compete study.toml --method assd --name alone", "", 0),
    "usage": ("study create", "", 0),
    "no usable file": ("study create broken.toml --name new", "", 3),
}


def test_the_suggested_command_works(place, capsys):
    for storage in ("", " --storage sqlite:///other.db"):
        call(f"study create study.toml --name fresh{storage}", capsys)
    (place / "broken").mkdir()
    h5py.File(place / "broken" / "a.h5", "w").close()
    sound = (place / "study.toml").read_text()
    (place / "broken.toml").write_text(sound.replace('retain = "retain"', 'retain = "broken"\nskip_faulty = true'))
    for case, (line, more, wanted) in CASES.items():
        code, said = call(line, capsys)
        assert code, case
        suggested = re.search(r": ssdtune (.*)$", said.strip())
        assert suggested, (case, said)
        code, said = call(suggested[1] + more, capsys)
        assert code == wanted, (case, said)


def call(line, capsys):
    """(exit code, standard error) of a command."""
    capsys.readouterr()
    try:
        main(shlex.split(line))
    except SystemExit as stop:
        return stop.code or 0, capsys.readouterr().err
    return 0, capsys.readouterr().err
