"""``ssdtune study``: the group of all commands on studies."""

from __future__ import annotations

import click

from ssdtune.cli.study_apply import apply
from ssdtune.cli.study_compare import compare
from ssdtune.cli.study_compete import compete
from ssdtune.cli.study_create import create, delete
from ssdtune.cli.study_evaluate import evaluate
from ssdtune.cli.study_move import move
from ssdtune.cli.study_read import best, export, list_methods, list_studies, show
from ssdtune.cli.study_rescore import rescore
from ssdtune.cli.study_run import run


class StudyGroup(click.Group):
    """Lists its commands in the order of a study's life."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=StudyGroup, epilog="Example: ssdtune study create mine.toml")
def study() -> None:
    """Create, run, compare and apply studies of a method's knobs.

    A study lives in a storage: --storage, else $SSDTUNE_STORAGE, else sqlite:///ssdtune.db in this folder. Several
    processes may run one study at once.
    """


for command in (
    create,
    run,
    compare,
    compete,
    list_methods,
    list_studies,
    show,
    best,
    rescore,
    export,
    apply,
    evaluate,
    move,
    delete,
):
    study.add_command(command)
