"""``ssdtune attack``: worst-case perturbations of the untouched, the unlearned and the oracle model, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from ssdtune.cli.console import FiniteRange, json_option, print_json, print_table, track
from ssdtune.cli.storage import device_option, storage_option
from ssdtune.errors import ConfigError


@click.command(
    short_help="How far worst-case perturbations move each model's images.",
    epilog="Example: ssdtune attack mine --out attacked --norm l2",
)
@click.argument("name")
@click.option(
    "--out", required=True, metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Folder to make."
)
@click.option(
    "--norm", type=click.Choice(("l2", "linf")), multiple=True, help="Norm of the perturbation.  [default: both]"
)
@click.option(
    "--eps",
    type=FiniteRange(min=0),
    multiple=True,
    help="Sizes, for one --norm.  [default: 0.01 to 0.08 of l2, 1/255 to 8/255 of linf]",
)
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True, help="Steps of the ascent.")
@click.option("--set", "which", default="retain", show_default=True, help="The set that slices are taken from.")
@click.option(
    "--slices", type=click.IntRange(min=1), default=8, show_default=True, help="At most so many, spread over the set."
)
@click.option("--trial", "number", type=click.IntRange(min=0), help="A finished trial.  [default: the best feasible]")
@storage_option
@device_option
@json_option
def attack(
    name: str,
    out: Path,
    norm: tuple[str, ...],
    eps: tuple[float, ...],
    steps: int,
    which: str,
    slices: int,
    number: int | None,
    storage: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Attack the reconstructions of study NAME's models, each with the perturbation that is worst for it.

    l2 perturbs sampled k-space, eps over its own norm; linf an image before it is scanned, eps over the volume's
    maximum. Printed are means over slices, of SSIM with its lowest and highest; DIR gets quality.png and slice.png.
    Deterministic. The oracle is shown where the study has one.
    """
    if eps and len(norm) != 1:
        raise ConfigError("--eps is of one norm", "--eps", "give one --norm l2 or linf with it")
    import numpy as np

    from ssdtune.cli.reconstruct import of_study
    from ssdtune.errors import check_known
    from ssdtune.mri.attack import LADDERS, chosen_slices
    from ssdtune.mri.attack import attack as run
    from ssdtune.mri.reconstruct import check_free_folder
    from ssdtune.report.attack_figures import draw_quality, draw_slice

    check_free_folder(out)
    task, models = of_study(name, number, storage, device)
    check_known("set", which, list(task.scored_sets), "--set")
    if task.oracle is not None:
        models["oracle"] = dict(task.oracle.named_parameters())
    samples = chosen_slices(task.scored_sets[which], slices)
    ladders = {
        one: (0.0, *(sorted(set(eps) - {0.0}) if eps else LADDERS[one])) for one in LADDERS if one in (norm or LADDERS)
    }
    plan = [(one, model, size) for one in ladders for model in models for size in ladders[one]]
    found = {
        each: run(task, models[each[1]], samples, each[0], each[2], steps=steps)
        for each in track(plan, "attacking", len(plan))
    }
    rows = [
        {
            "norm": one,
            "model": model,
            "eps": size,
            **{key: float(values.mean()) for key, values in result.measures.items()},
            "ssim_low": float(result.measures["ssim"].min()),
            "ssim_high": float(result.measures["ssim"].max()),
        }
        for (one, model, size), result in found.items()
    ]
    out.mkdir(parents=True)
    panels = {}
    for one, sizes in ladders.items():
        values = {m: np.stack([found[one, m, size].measures["ssim"] for size in sizes]) for m in models}
        bands = {model: (each.mean(1), each.min(1), each.max(1)) for model, each in values.items()}
        panels[f"{one}, {len(samples)} slices of {which}"] = (np.array(sizes), bands)
    draw_quality(out / "quality.png", panels)
    one, sizes = next(iter(ladders.items()))
    images = {m: (found[one, m, sizes[-1]].images[0][0], found[one, m, sizes[-1]].images[1][0]) for m in models}
    target = samples[0][1]["image"].numpy()
    draw_slice(out / "slice.png", images, target, f"{samples.ids[0]}, {one} {sizes[-1]:.3g}")
    if as_json:
        print_json({"set": which, "slices": len(samples), "steps": steps, "folder": str(out), "attacks": rows})
        return
    columns = ["norm", "model", "eps", "change", "ssim", "ssim_low", "ssim_high", "psnr", "nmse"]
    print_table(columns, [[row[key] for key in columns] for row in rows], f"{len(samples)} slices of {which}")
    click.echo(f"look at {out}/quality.png and {out}/slice.png")
