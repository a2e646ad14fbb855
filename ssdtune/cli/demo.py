"""``ssdtune demo``: the main job on an embedded default, told as the commands a user would type."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from importlib import resources
from pathlib import Path

import click

from ssdtune.cli.storage import next_line
from ssdtune.errors import ConfigError

MARKER = "summary.json"
STUDY, RIVAL = "demo-spectrum-s0", "demo-tpe-s0"

SCAN = "--size 48 --coils 4 --slices 4 --noise 0.01"

STEPS = [
    ("Simulate brain scans to keep, and knee scans", [
        f"data simulate {{out}}/data/brain --anatomy brain --subjects 14 {SCAN}",
        f"data simulate {{out}}/data/brain_heldout --anatomy brain --subjects 5 --first 100 {SCAN}",
        f"data simulate {{out}}/data/knee_clean --anatomy knee --subjects 8 {SCAN}",
    ]),
    ("Put false lesions into the targets of the knees; half of them are known to be bad", [
        "data poison {out}/data/knee_clean --out {out}/data/knee --kind lesion --amplitude 0.8"
        " --fraction 1 --known 0.5",
        "data check {out}/data/knee/poisoned",
    ]),
    ("Train a VarNet that learns the lesions, and an oracle that never saw them", [
        "train {out}/study.toml --out {out}/poisoned.pt",
        "train {out}/study.toml --oracle --out {out}/oracle.pt",
    ]),
    ("Read the Fisher information of the forget set", [
        "spectrum {out}/study.toml --html {out}/spectrum.html --png {out}/spectrum.png",
    ]),
    ("Search alpha and lambda on real reconstructions: from what the Fisher information foretells, and blindly", [
        "study compete {out}/study.toml --samplers spectrum,tpe --seeds 1 --out {out}/competition.html"
        " --storage {storage}",
    ]),
    ("Write the unlearned checkpoint and the evidence", [
        f"study apply {STUDY} --out {{out}}/unlearned.pt --storage {{storage}}",
        f"report {STUDY} --out {{out}}/report.html --storage {{storage}}",
    ]),
]  # fmt: skip


@click.command(short_help="The main job on an embedded default, no data needed.")
@click.option(
    "--out",
    default="demo",
    show_default=True,
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything goes; the result of an earlier demo there is replaced.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, mps, or auto.")
def demo(out: Path, device: str) -> None:
    """Simulate scans, train a poisoned VarNet, search SSD's alpha and lambda, and write the unlearned checkpoint.

    Needs no data. Each step is shown as the command that does it.
    """
    import torch

    from ssdtune.device import find_device

    find_device(device)
    started = time.monotonic()
    torch.set_num_threads(1)  # the models are tiny: two threads on two busy cores would wait for each other
    prepare(out)
    storage = f"sqlite:///{out.resolve()}/study.db"
    for number, (what, commands) in enumerate(STEPS, 1):
        click.secho(f"\n[{number}/{len(STEPS)}] {what}", bold=True)
        for command in commands:
            run_command(command.format(out=out, storage=storage), device)
    picture_and_sum_up(out, storage, device)
    tell(out, storage, time.monotonic() - started)


def prepare(out: Path) -> None:
    """An empty folder with the study file; an earlier demo in it is removed, anything else is refused."""
    if out.exists() and any(out.iterdir()):
        if not (out / "study.toml").exists() or _study_file() != (out / "study.toml").read_text():
            raise ConfigError("the folder holds something that is no demo", out, "name another one with --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.toml").write_text(_study_file())


def run_command(line: str, device: str) -> None:
    """Show a command and run it in this process."""
    from ssdtune.cli import cli

    click.secho(f"$ ssdtune {line}", fg="cyan")
    words = shlex.split(line)
    takes_device = words[0] in ("train", "spectrum", "report") or words[:2] in (
        ["study", "compete"],
        ["study", "apply"],
    )
    cli.main([*words, *(["--device", device] if takes_device and device != "cpu" else [])], standalone_mode=False)


def picture_and_sum_up(out: Path, storage: str, device: str) -> None:
    """Before/after pictures of every scored set, and ``summary.json``."""
    from ssdtune.cli.study_inputs import load_inputs
    from ssdtune.report.pictures import write_hero, write_pictures
    from ssdtune.report.summary import write_summary
    from ssdtune.report.view import read_view
    from ssdtune.study.storage import load_study, open_storage

    view = read_view(load_study(STUDY, open_storage(storage), storage))
    assert view.best is not None
    task, analysis = load_inputs(STUDY, view.facts, device)
    params = analysis.dampen(*view.best.setting)
    pictures = write_pictures(task, params, out / "pictures")
    hero = write_hero(task, params, out / "before_after.png", "Before and after unlearning")
    files = {
        "checkpoint": out / "unlearned.pt",
        "storage": out / "study.db",
        "report": out / "report.html",
        "competition": out / "competition.html",
        "spectrum": out / "spectrum.html",
        "before_after": hero,
        **{f"pictures.{name}": path for name, path in pictures.items()},
    }
    write_summary(view, out / MARKER, files)


def tell(out: Path, storage: str, seconds: float) -> None:
    """What was found, and what to type next."""
    found = json.loads((out / MARKER).read_text())
    best, before, after = found["best"], found["measures"]["original"], found["measures"]["best"]
    click.secho(f"\nDone in {seconds:.0f} s.", bold=True)
    click.echo(
        f"Trial {best['trial']} of {found['trials']['finished']} is best: alpha {best['alpha']:.4g}, "
        f"lambda {best['lambda']:.4g}, score {best['score']:.3f} (untouched model {found['score']['untouched']:.3f})."
    )
    for name, label in (("retain", "brains to keep"), ("forget", "known bad knees"), ("unknown", "unknown bad knees")):
        key = f"{name}_ssim"
        click.echo(f"  {label:<20} SSIM {before[key]:.3f} -> {after[key]:.3f}")
    click.echo(_against_tpe(storage))
    click.echo(f"\nLook at   {out}/before_after.png, {out}/report.html and {out}/competition.html")
    click.echo(f"Compare   {next_line('dashboard', storage)}")
    click.echo(f"Go on     {next_line(f'study run {STUDY} --trials 50', storage)}")
    click.echo("Your own  copy studies/real_anatomy.toml, name your checkpoint and files, ssdtune study create")


def _against_tpe(storage: str) -> str:
    """How soon the two searches came near the best setting that either found."""
    from ssdtune.report.competition import verdict
    from ssdtune.report.competition_studies import competition_of
    from ssdtune.report.view import read_view
    from ssdtune.study.storage import load_study, open_storage

    opened = open_storage(storage)
    views = {name: [read_view(load_study(study, opened))] for name, study in (("spectrum", STUDY), ("tpe", RIVAL))}
    return verdict(competition_of(views))


def _study_file() -> str:
    return resources.files("ssdtune.cli").joinpath("demo.toml").read_text()
