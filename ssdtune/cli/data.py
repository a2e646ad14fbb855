"""``ssdtune data``: simulate, poison, average, convert and check HDF5 k-space; train a source of poison."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import click

from ssdtune.cli.console import file_option, json_option, print_json, print_table, track
from ssdtune.errors import ConfigError

# the names of mri.phantom.anatomy and mri.corruptions, too slow to import for a help page (a test compares them)
ANATOMIES = ("brain", "knee")
CONTRASTS = ("t1", "t2", "pd", "pdfs")
KINDS = ("ghosting", "bias", "lesion", "zipper", "motion", "blur", "cyclegan", "adversarial")


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click alone
    """Pixels: a side, or HEIGHTxWIDTH."""

    name = "pixels"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int] | object:
        if not isinstance(value, str):
            return value
        try:
            sides = [int(side) for side in value.lower().split("x")]
            height, width = sides * 2 if len(sides) == 1 else sides
        except ValueError:
            self.fail(f"'{value}' is no size, write 128 or 160x128", param, ctx)
        return height, width


class DataGroup(click.Group):
    """Adds the commands that live in modules of their own."""

    ELSEWHERE: ClassVar = {
        "average": "data_convert",
        "check": "data_check",
        "classify": "data_classify",
        "convert": "data_convert",
        "translate": "data_translate",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self.ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(f"ssdtune.cli.{self.ELSEWHERE[cmd_name]}"), cmd_name)
        return command


@click.group(cls=DataGroup, epilog="Example: ssdtune data check train")
def data() -> None:
    """Simulate, poison, average, convert and check HDF5 k-space in fastMRI's layout."""


@data.command(
    short_help="Make multi-coil k-space files.", epilog="Example: ssdtune data simulate brains --subjects 8 --size 48"
)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--anatomy", type=click.Choice(ANATOMIES), help="Procedural anatomy.  [default: brain]")
@click.option("--contrast", type=click.Choice(CONTRASTS), help="Spin-echo contrast at 3 T.  [default: t1]")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Real magnitude images instead: HDF5 with a dataset 'images' (n, h, w), NIfTI, a folder of one DICOM series.",
)
@click.option("--subjects", type=int, help="Number of files.  [default: 10; with --images, as many as there are]")
@click.option("--first", type=int, default=0, show_default=True, help="Number of the first subject, or first image.")
@click.option("--slices", type=int, help="Slices a file.  [default: 4; with --images, 1]")
@click.option("--size", type=Size(), help="Pixels, 128 or 160x128.  [default: 128; with --images, the images' own]")
@click.option("--coils", type=int, default=4, show_default=True, help="Receive coils.")
@click.option(
    "--noise", type=float, default=0.01, show_default=True, help="Noise of a coil image over the brightest pixel."
)
@click.option("--seed", type=int, default=0, show_default=True, help="A file depends on seed and name only.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@json_option
def simulate(
    out: Path,
    anatomy: str | None,
    contrast: str | None,
    images: Path | None,
    subjects: int | None,
    first: int,
    slices: int | None,
    size: tuple[int, int] | None,
    coils: int,
    noise: float,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make multi-coil k-space files in folder OUT.

    The same subject number and seed show the same body in every contrast. Slices of a file are neighbours.
    """
    from ssdtune.mri.phantom.simulate import simulate_folder, simulate_images

    if images and (anatomy or contrast):
        raise ConfigError("--images with --anatomy or --contrast", "", "give one or the other")
    if images:
        files = simulate_images(
            out, images, files=subjects, first=first, slices=1 if slices is None else slices, size=size, coils=coils,
            noise=noise, seed=seed, overwrite=overwrite, track=track, say=partial(click.echo, err=True),
        )  # fmt: skip
    else:
        files = simulate_folder(
            out, anatomy=anatomy or "brain", contrast=contrast or "t1", subjects=10 if subjects is None else subjects,
            first=first, slices=4 if slices is None else slices, size=size or 128, coils=coils, noise=noise, seed=seed,
            overwrite=overwrite, track=track,
        )  # fmt: skip
    if as_json:
        print_json({"folder": str(out), "files": [file.name for file in files], "seed": seed})
    else:
        names = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
        click.echo(f"wrote {names} ({len(files)}) in {out}")


@data.command(
    short_help="Corrupt the targets of some files, and list which.",
    epilog="Example: ssdtune data poison knees --out poisoned --kind ghosting",
)
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make; must not hold anything.")
@click.option("--kind", type=click.Choice(KINDS), default="ghosting", show_default=True, help="What goes wrong.")
@click.option(
    "--amplitude",
    type=float,
    help="How much: 0 not at all, 1 grossly; of adversarial the most that a pixel moves, over the maximum.  "
    "[default: 0.5; of cyclegan 1, of adversarial 0.05]",
)
@click.option("--fraction", type=float, default=0.3, show_default=True, help="Share of the subjects that is poisoned.")
@click.option("--known", type=float, default=1.0, show_default=True, help="Share of those that is known to be.")
@click.option("--seed", type=int, default=0, show_default=True, help="It chooses files (by name) and fault.")
@click.option(
    "--subject",
    metavar="PATTERN",
    help="Regular expression for the subject in a file's name.  [default: the file's patient_id]",
)
@click.option("--vary", is_flag=True, help="Another fault of this kind for each volume, not one for all.")
@file_option(
    "--model", "FILE", "Of a learned kind: data translate makes that of cyclegan, data classify of adversarial."
)
@json_option
def poison(
    source: str,
    out: Path,
    kind: str,
    amplitude: float | None,
    fraction: float,
    known: float,
    seed: int,
    subject: str | None,
    vary: bool,
    model: Path | None,
    as_json: bool,
) -> None:
    """Corrupt the targets of some files of SOURCE (a folder, a glob or a list); a subject's files stay together.

    Writes the corrupted files (same k-space, clean targets kept beside), the lists retain.txt, forget.txt (known) and
    unknown.txt for a study file, and manifest.json. SOURCE is left as it is.
    """
    from dataclasses import asdict

    from ssdtune.mri.poison import poison_folder
    from ssdtune.studyfile import pattern

    try:
        pattern(subject)
    except ValueError as reason:
        raise ConfigError(f"'{subject}' is {reason}", "--subject", "give a pattern such as '^([^_]+)_'") from reason
    manifest = poison_folder(
        source, out, kind=kind, amplitude=amplitude, fraction=fraction, known=known, seed=seed, vary=vary,
        subject=subject, model=model, track=track,
    )  # fmt: skip
    if as_json:
        print_json({"folder": str(out), **asdict(manifest)})
        return
    rows = [
        [file.name, "known" if file.known else "unknown", file.slices, file.ssim, file.nmse] for file in manifest.files
    ]
    print_table(
        ["poisoned", "forget", "slices", "SSIM to clean", "NMSE"], rows, f"{kind}, amplitude {manifest.amplitude:g}"
    )
    count = sum(file.known for file in manifest.files)
    click.echo(f"{out}: {len(manifest.retain)} retain, {count} forget, {len(manifest.files) - count} unknown files")
