"""``ssdtune demo``: the main job on an embedded default, told as the commands a user would type."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from importlib import resources
from pathlib import Path

import click

from ssdtune.cli.console import each_said_once, print_table
from ssdtune.cli.storage import next_line
from ssdtune.errors import ConfigError

MARKER = "summary.json"
STUDY = "demo"
COMPETITION = {"spectrum": "demo-ssd-spectrum-s0", "tpe": "demo-ssd-tpe-s0"}

SHOWN = {
    "retain_ssim": "brains to keep, held out",
    "forget_ssim": "known bad knees",
    "unknown_ssim": "unknown bad knees",
    "unknown_clean_ssim": "the same against clean targets",
}
"""What the summary at the end tells, what became worse as plainly as what became better."""

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
    ("Search the default method's hyperparameters on real reconstructions", [
        "study create {out}/study.toml --storage {storage}",
        f"study run {STUDY} --storage {{storage}}",
    ]),
    ("SSD beside it, searched from what the Fisher information foretells, and blindly", [
        "study compete {out}/study.toml --method ssd --samplers spectrum,tpe --seeds 1 --name demo-ssd"
        " --out {out}/competition.html --storage {storage}",
    ]),
    ("Write the unlearned checkpoint and the evidence", [
        f"study apply {STUDY} --out {{out}}/unlearned.pt --storage {{storage}}",
        f"report {STUDY} --out {{out}}/report.html --storage {{storage}}",
    ]),
]  # fmt: skip


@click.command(
    short_help="The main job on an embedded default, no data needed.",
    epilog="Example: ssdtune demo --out demo --device cpu",
)
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
    """Simulate scans, train a poisoned VarNet, search, and write the unlearned checkpoint.

    Needs no data. Each step is shown as the command that does it.
    """
    import torch

    from ssdtune.device import find_device

    find_device(device)
    started = time.monotonic()
    torch.set_num_threads(1)  # the models are tiny: two threads on two busy cores would wait for each other
    prepare(out)
    storage = f"sqlite:///{out.resolve()}/study.db"
    with each_said_once():
        for number, (what, commands) in enumerate(STEPS, 1):
            click.secho(f"\n[{number}/{len(STEPS)}] {what}", bold=True)
            for command in commands:
                run_command(command.format(out=out, storage=storage), device)
        picture_and_sum_up(out, storage, device)
    tell(out, storage, time.monotonic() - started)


def prepare(out: Path) -> None:
    """An empty folder with the study file; an earlier demo in it is removed, ConfigError for anything else."""
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
    takes_device = words[0] in ("train", "spectrum", "report", "study")
    cli.main([*words, *(["--device", device] if takes_device and device != "cpu" else [])], standalone_mode=False)


def picture_and_sum_up(out: Path, storage: str, device: str) -> None:
    """Before/after pictures of every scored set, and ``summary.json``."""
    from ssdtune.cli.study_inputs import load_inputs
    from ssdtune.report.pictures import write_hero, write_pictures
    from ssdtune.report.summary import summary_of
    from ssdtune.report.view import read_view
    from ssdtune.report.volumes import notable_slices
    from ssdtune.study.run import setting_seed
    from ssdtune.study.storage import load_study, open_storage
    from ssdtune.unlearning.method import run

    view = read_view(load_study(STUDY, open_storage(storage), storage))
    assert view.best is not None
    task, unlearner = load_inputs(STUDY, view.record, device)
    params = run(unlearner, view.best.setting, setting_seed(view.record, view.best.setting)).params
    notable = notable_slices(view)
    pictures = write_pictures(task, params, out / "pictures", notable=notable)
    hero = write_hero(task, params, out / "before_after.png", "Before and after unlearning", notable)
    files = {
        "checkpoint": out / "unlearned.pt",
        "storage": out / "study.db",
        "report": out / "report.html",
        "competition": out / "competition.html",
        "spectrum": out / "spectrum.html",
        "before_after": hero,
        **{f"pictures.{name}": path for name, path in pictures.items()},
    }
    (out / MARKER).write_text(json.dumps(summary_of(view, files), indent=2, allow_nan=False) + "\n")


def tell(out: Path, storage: str, seconds: float) -> None:
    """What was found, and what to type next."""
    found = json.loads((out / MARKER).read_text())
    best, before, after = found["best"], found["measures"]["original"], found["measures"]["best"]
    setting = ", ".join(f"{name} {value:.4g}" for name, value in best["setting"].items())
    click.secho(f"\nDone in {seconds:.0f} s.", bold=True)
    click.echo(
        f"Trial {best['trial']} of {found['trials']['finished']} is best: {setting}, "
        f"score {best['score']:.3f} (untouched model {found['score']['untouched']:.3f})."
    )
    rows = []
    for key, label in SHOWN.items():
        oracle = found["measures"]["oracle"].get(key)
        rows.append([label, before[key], after[key], after[key] - before[key], oracle])
    print_table(["SSIM of", "before", "after", "change", "oracle"], rows)
    for line in found_in_words(storage):
        click.echo(line)
    click.echo(_against_tpe(storage))
    click.echo(f"\nLook at   {out}/before_after.png, {out}/report.html and {out}/competition.html")
    click.echo(f"Compare   {next_line(storage, 'dashboard')}")
    click.echo(f"Go on     {next_line(storage, 'study', 'run', STUDY, '--trials', '50')}")
    click.echo(f"Your own  copy {out}/study.toml, name your checkpoint and files, ssdtune study create YOURS.toml")


def found_in_words(storage: str) -> list[str]:
    """What became better and what became worse, a line each."""
    from ssdtune.report.statement import changes
    from ssdtune.report.view import read_view
    from ssdtune.study.storage import load_study, open_storage

    better, worse = changes(read_view(load_study(STUDY, open_storage(storage), storage)))
    return [f"Better: {'; '.join(better) or 'nothing'}.", f"Worse: {'; '.join(worse) or 'nothing'}."]


def _against_tpe(storage: str) -> str:
    """What SSD came to, and how soon its two searches came near the best setting that either found."""
    from ssdtune.report.competition import verdict
    from ssdtune.report.competition_studies import competition_of
    from ssdtune.report.view import read_view
    from ssdtune.study.storage import load_study, open_storage

    opened = open_storage(storage)
    views = {name: [read_view(load_study(study, opened))] for name, study in COMPETITION.items()}
    found = [view.best.score.value for (view,) in views.values() if view.best is not None and view.best.score.feasible]
    best = f"SSD alone comes to a score of {max(found):.3f}." if found else "SSD alone finds nothing feasible."
    return f"{best} {verdict(competition_of(views))}"


def _study_file() -> str:
    return resources.files("ssdtune.cli").joinpath("demo.toml").read_text()
