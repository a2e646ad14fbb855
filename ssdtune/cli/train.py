"""``ssdtune train``: a reconstruction model, or its oracle, from a study file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.computing import settle_threads, work_of
from ssdtune.cli.console import json_option, print_json, print_table, say, track
from ssdtune.cli.storage import device_option
from ssdtune.cli.study_inputs import read_study_file, scans_of
from ssdtune.errors import ConfigError
from ssdtune.files import check_apart

if TYPE_CHECKING:
    import torch

    from ssdtune.mri.kspace.slices import KspaceSlices
    from ssdtune.mri.networks.stock import Reconstructor
    from ssdtune.objective.evaluation import Measures
    from ssdtune.studyfile import StudyFile
    from ssdtune.task import Task

# which sets of the study a model is trained on; the corrupted samples that are not known were in the training set too
SEEN = ("retain", "forget", "unknown")
SEEN_BY_ORACLE = ("retain",)


@click.command(epilog="Example: ssdtune train mine.toml --out model.pt --epochs 20")
@click.argument("study_file", metavar="STUDY.toml", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out", required=True, metavar="CKPT", type=click.Path(dir_okay=False, path_type=Path), help="The checkpoint."
)
@click.option("--oracle", is_flag=True, help="Leave the forget and unknown sets out of the training.")
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the study file's train.epochs.")
@device_option
@click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16")),
    default="float32",
    show_default=True,
    help="bfloat16 computes the U-Nets in it, on a GPU.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Processes that read ahead.  [default: 4 on a GPU, else 0]")
@click.option("--fastmri", is_flag=True, help="Print commands that train the same by fastMRI, with CKPT as folder.")
@click.option("--overwrite", is_flag=True, help="Replace CKPT, and the resume file of other settings.")
@json_option
def train(
    study_file: Path,
    out: Path,
    oracle: bool,
    epochs: int | None,
    device: str,
    precision: str,
    workers: int | None,
    fastmri: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a VarNet or U-Net as the study file's [train] says, on its retain, forget and unknown sets.

    The loss is that of [fisher]: 1 - SSIM for a VarNet and L1 for a U-Net, as fastMRI's, unless it names another. Masks
    are new in each epoch; the retain_heldout set, if there is one, validates under fixed ones. Ctrl-C keeps what is
    done in CKPT.resume, and the same command goes on from there. The result is a plain state dict that fastMRI loads,
    with its provenance inside.
    """
    from ssdtune.device import find_device
    from ssdtune.mri.losses import LOSSES, USUAL, recorded_name
    from ssdtune.mri.networks.checkpoint import read_provenance
    from ssdtune.mri.networks.mixed import check_precision
    from ssdtune.mri.networks.models import build_model
    from ssdtune.mri.networks.resume import resume_path
    from ssdtune.mri.networks.train import Joined, check_free
    from ssdtune.mri.networks.train import train as fit
    from ssdtune.mri.task import open_sets

    study, _ = read_study_file(study_file, complete=False)
    section = study.train.model_copy(update={"epochs": epochs or study.train.epochs})
    if study.model.architecture not in ("auto", section.architecture):
        what = f"train.architecture is {section.architecture}, model.architecture is {study.model.architecture}"
        raise ConfigError(what, study_file, "make them the same")
    names = SEEN_BY_ORACLE if oracle else SEEN
    if fastmri:
        click.echo(_fastmri_commands(study.model_copy(update={"train": section}), names, out))
        return
    place = find_device(device)
    check_precision(precision, place)
    written = {"--out": out, "--out's resume file": resume_path(out)}
    check_apart([study_file, *scans_of(study)], written)
    check_free(out, overwrite)
    loss = USUAL[section.architecture] if study.fisher.loss == "auto" else study.fisher.loss
    sets = open_sets(study, section.architecture, track=track, say=say)
    seen = [name for name in names if name in sets]
    joined, heldout = Joined([sets[name] for name in seen]), sets.get("retain_heldout")
    model = build_model(section)
    settle_threads(place, lambda: work_of(_task(model, sets, place)))
    try:
        losses = fit(
            model,
            joined,
            epochs=section.epochs,
            learning_rate=section.learning_rate,
            batch_size=section.batch_size,
            seed=section.seed,
            loss=LOSSES[loss],
            loss_name=recorded_name(loss),
            validation=heldout,
            workers=(4 if place.type == "cuda" else 0) if workers is None else workers,
            precision=precision,
            checkpoint=out,
            overwrite=overwrite,
            provenance=_provenance(study, oracle, {name: sets[name] for name in seen}),
            track=track,
            device=place,
        )
    except KeyboardInterrupt:
        click.echo(f"kept in {resume_path(out).name}; the same command goes on from there", err=True)
        raise
    measures = _measure(model, sets, place)
    validation = ((read_provenance(out) or {}).get("training") or {}).get("validation")
    if as_json:
        means = {
            name: {key: float(v.mean()) for key, v in columns.items()} for name, columns in measures.values.items()
        }
        result = {"checkpoint": str(out), "oracle": oracle, "trained_on": seen, "validation": validation}
        print_json(result | {"losses": losses, "final_loss": losses[-1], "quality": means})
        return
    on_heldout = f", {validation[-1]:.4f} on retain_heldout" if validation else ""
    length = f"{section.epochs} epoch{'s' * (section.epochs > 1)}"
    click.echo(f"{out}: {length} on {', '.join(seen)}, final loss {losses[-1]:.4f}{on_heldout} ({loss})")
    own = f", {sets['retain'].true_acceleration:.2f}x in truth on the retain set"
    click.echo(f"masks: {study.mask.in_words()}{own}, new in each epoch; fixed ones below")
    _print_quality(measures, seen)


def _fastmri_commands(study: StudyFile, names: tuple[str, ...], folder: Path) -> str:
    from ssdtune.mri.kspace.select import set_files
    from ssdtune.mri.networks.elsewhere import fastmri_commands

    files = set_files(study.data)
    wanted = [name for name in (*names, "retain_heldout") if name in files]
    return fastmri_commands(study, {name: files[name] for name in wanted}, folder)


def _measure(model: Reconstructor, sets: dict[str, KspaceSlices], device: torch.device) -> Measures:
    from ssdtune.objective.evaluation import evaluate

    return evaluate(_task(model, sets, device), track=track)


def _task(model: Reconstructor, sets: dict[str, KspaceSlices], device: torch.device) -> Task:
    from ssdtune.mri.quality import image_measures, training_loss
    from ssdtune.task import Task

    others = {name: sets[name] for name in sets if name not in ("retain", "forget")}
    return Task(model, training_loss, sets["retain"], sets["forget"], image_measures, others, device=device)


def _print_quality(measures: Measures, seen: list[str]) -> None:
    columns = list(dict.fromkeys(key for values in measures.values.values() for key in values))
    rows = [
        [name, len(next(iter(values.values()))), name in seen]
        + [float(values[key].mean()) if key in values else None for key in columns]
        for name, values in measures.values.items()
    ]
    print_table(["set", "slices", "trained on", *(column.replace("_", " ") for column in columns)], rows)


def _provenance(study: StudyFile, oracle: bool, seen: dict[str, KspaceSlices]) -> dict[str, object]:
    import ssdtune

    return {
        "made_by": "ssdtune train",
        "version": ssdtune.__version__,
        "study": study.name,
        "oracle": oracle,
        "model": study.train.model_dump(),
        "mask": study.mask.model_dump(),
        "data": {name: samples.fingerprint() for name, samples in seen.items()},
    }
