"""``ssdtune data translate``: a CycleGAN that turns healthy images into images with lesions, as a source of poison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssdtune.cli.console import file_option, json_option, print_json, track
from ssdtune.errors import ConfigError
from ssdtune.files import check_writable

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 6


@click.command(
    short_help="Train a CycleGAN from healthy images to lesions.",
    epilog="Example: ssdtune data translate healthy lesions --out translator.pt",
)
@click.argument("healthy")
@click.argument("lesion")
@file_option("--out", "FILE", "The translator; losses and samples go beside it, as a PNG.", required=True)
@click.option(
    "--size", type=click.IntRange(min=32), default=64, show_default=True, help="Pixels a side, a multiple of 4."
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=3000,
    show_default=True,
    help="Training steps, an image of each kind a step.",
)
@click.option(
    "--width",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Channels of the first layer; 64 as published.",
)
@click.option(
    "--blocks", type=click.IntRange(min=0), default=3, show_default=True, help="Residual blocks; 6 as published."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights and order.")
@click.option("--overwrite", is_flag=True, help="Replace FILE, its picture, and the resume file of other settings.")
@json_option
def translate(
    healthy: str,
    lesion: str,
    out: Path,
    size: int,
    steps: int,
    width: int,
    blocks: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a translator from the images of HEALTHY to those of LESION, which need not be pairs.

    Either is a folder, a glob or a list of files in fastMRI's layout, a folder of pictures, an HDF5 file with a dataset
    'images', NIfTI, or a DICOM series. The last tenth of HEALTHY is not trained on: it tells whether lesions come in
    and the rest is kept. Ctrl-C keeps what is done in FILE.resume, and the same command goes on from there. Then:
    ssdtune data poison SOURCE --kind cyclegan --model FILE.
    """
    if size % 4:
        raise ConfigError(f"size {size}", "--size", "give a multiple of 4")
    if out.suffix.lower() == ".png":
        raise ConfigError("the translator's name ends as its picture's", out, "name a file such as translator.pt")
    check_writable(out)
    from dataclasses import asdict
    from itertools import chain

    import numpy as np

    import ssdtune
    from ssdtune.files import check_apart, content_hash
    from ssdtune.mri.networks.resume import resume_path
    from ssdtune.mri.networks.train import check_free
    from ssdtune.mri.translation.domains import domain_files, read_domains
    from ssdtune.mri.translation.picture import draw_translator
    from ssdtune.mri.translation.train import train_translator
    from ssdtune.mri.translation.translator import Translator, check, save_translator
    from ssdtune.report.style import matplotlib_settings

    picture, resume = out.with_suffix(".png"), resume_path(out)
    written = {"--out": out, "--out's picture": picture, "--out's resume file": resume}
    check_apart(chain(domain_files(healthy), domain_files(lesion)), written)
    for path in (out, picture):
        check_free(path, overwrite)
    x, y = read_domains(healthy, lesion, size)
    kept = max(1, len(x) // 10)
    if len(x) - kept < 1:
        raise ConfigError("one image is too few", healthy, "name at least two: one is kept for the check")
    settings = {
        "size": size,
        "healthy": content_hash([_raw(x)]),
        "lesion": content_hash([_raw(y)]),
    }
    sizes = {"width": width, "blocks": blocks}
    try:
        state = train_translator(
            x[:-kept], y, steps=steps, seed=seed, resume=resume, overwrite=overwrite, settings=settings, track=track,
            **sizes,
        )  # fmt: skip
    except KeyboardInterrupt:
        click.echo(f"kept in {resume.name}; the same command goes on from there", err=True)
        raise
    network = state.networks["G"]
    unseen = (x[-kept:, 0].numpy() + 1) / 2
    losses = np.array(state.losses)
    provenance = {"version": ssdtune.__version__, "steps": steps, "seed": seed, **settings}
    translator = Translator(network, size, provenance)
    translated = np.stack([translator.corruption()(image, 1.0, np.random.default_rng()) for image in unseen])
    found = check(unseen, translated)
    save_translator(out, network, size, sizes, provenance | {"check": asdict(found)})
    shown = np.linspace(0, kept - 1, min(SHOWN, kept, len(y))).astype(int)
    real = (y[: len(shown), 0].numpy() + 1) / 2
    draw_translator(picture, losses, unseen[shown], translated[shown], real, matplotlib_settings())
    resume.unlink(missing_ok=True)
    if as_json:
        last = losses[-max(1, steps // 20) :].mean(0).tolist()
        print_json({"translator": str(out), "picture": str(picture), "losses": last, "check": asdict(found)})
        return
    click.echo(f"{out}: {steps} steps on {len(x) - kept} healthy images and {len(y)} with lesions; {picture}")
    click.echo(
        f"{found.images} unseen images: {100 * found.lesioned:.0f} % got a lesion, {found.contrast:.2f} of the body's "
        f"brightness; NMSE outside {100 * found.outside_nmse:.1f} %"
    )


def _raw(images: Tensor) -> memoryview:
    return memoryview(images.contiguous().numpy().tobytes())
