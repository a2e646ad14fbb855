"""``ssdtune spectrum --part`` and ``--merge``: what a part is asked for, and whether it belongs to a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.computing import open_task
from ssdtune.cli.console import print_json, say, track
from ssdtune.cli.study_inputs import scans_of
from ssdtune.errors import DataError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    from ssdtune.fisher.crew import Work
    from ssdtune.studyfile import StudyFile
    from ssdtune.task import Task


def part_of(text: str | None) -> tuple[int, int] | None:
    """(K, N) of K/N. Raises click.BadParameter."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise click.BadParameter(f"'{text}' is no part: give K/N, K from 1 to N")
    return int(number), int(of)


def write(study: StudyFile, part: tuple[int, int], out: Path, device: str, as_json: bool) -> None:
    """Compute a part of a study's analysis, write it and say so."""
    from ssdtune.fisher.sites import write_part
    from ssdtune.mri.task import settle

    check_writable(out)
    work = _work(study, open_task(study, device))
    write_part(out, work, study.fisher.definition, *part, how=_how(settle(study)))
    if as_json:
        print_json({"part": list(part), "file": str(out)})
    else:
        click.echo(f"part {part[0]}/{part[1]}: {out}, as secret as the data: it has gradients of single samples")


def asked_of_parts(study: StudyFile, cut: bool) -> dict[str, object]:
    """What parts that are merged for a study have to agree with, as ``merge_parts`` takes it.

    cut : whether they are of one study that was cut, whose data are then these, and compared where they are here.

    Raises
    ------
    ModelError : the checkpoint cannot be read. DataError : scans that are here cannot be.
    """
    from ssdtune.fisher.analysis import fisher_identity
    from ssdtune.mri.losses import recorded_name
    from ssdtune.mri.networks.models import load_model
    from ssdtune.mri.networks.recipe import settled
    from ssdtune.mri.task import load_task
    from ssdtune.task import model_hash

    loaded = load_model(study.model.checkpoint, study.model.architecture)
    own, _ = settled(study, loaded.checkpoint, loaded.architecture)
    found: dict[str, object] = {"model": model_hash(loaded.module), "loss": recorded_name(own.fisher.loss)}
    found |= {"definition": own.fisher.definition, **_how(own)}
    if own.fisher.definition == "batch":
        found["batch_size"] = own.fisher.batch_size
    if cut and scans_here(study):
        found |= fisher_identity(_work(study, load_task(study, track=track, say=say)).task)
    return found


def _how(study: StudyFile) -> dict[str, object]:
    """What else is the same at all sites, in words: the mask, and what of the data is taken and how it is weighed."""
    how = study.fisher
    return {"mask": study.mask.in_words(), "samples": how.samples or "all", "forget_share": how.forget_share or "own"}


def scans_here(study: StudyFile) -> list[Path]:
    """The scans of a study that is merged; none where some are not on this machine."""
    try:
        return scans_of(study)
    except DataError:
        return []


def _work(study: StudyFile, task: Task) -> Work:
    from ssdtune.fisher.analysis import work_of

    how = study.fisher
    return work_of(task, how.definition, how.batch_size, how.samples, how.memory_budget_gib * 2**30)
