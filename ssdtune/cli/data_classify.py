"""``ssdtune data classify``: a lesion classifier and how small a perturbation flips it, as a source of poison."""

from __future__ import annotations

from pathlib import Path

import click

from ssdtune.cli.console import file_option, json_option, print_json, print_table, track
from ssdtune.errors import ConfigError
from ssdtune.files import check_writable

LADDER = (0.0, 0.01, 0.02, 0.05, 0.1)


@click.command(
    short_help="Train a lesion classifier, and attack it.",
    epilog="Example: ssdtune data classify healthy lesions --out classifier.pt",
)
@click.argument("healthy")
@click.argument("lesion")
@file_option("--out", "FILE", "The classifier; an attack in pictures goes beside it, as a PNG.", required=True)
@click.option("--size", type=click.IntRange(min=16), default=64, show_default=True, help="Pixels a side.")
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True, help="Epochs of training.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of weights and order.")
@click.option("--overwrite", is_flag=True, help="Replace FILE and its picture.")
@json_option
def classify(
    healthy: str, lesion: str, out: Path, size: int, epochs: int, seed: int, overwrite: bool, as_json: bool
) -> None:
    """Train a classifier that tells images of HEALTHY from those of LESION, named as for data translate.

    The last tenth of each is not trained on: printed is what share of it is told right, and that under attacks that
    may change a pixel by eps of the maximum. Then: ssdtune data poison SOURCE --kind adversarial --model FILE
    --amplitude EPS.
    """
    if out.suffix.lower() == ".png":
        raise ConfigError("the classifier's name ends as its picture's", out, "name a file such as classifier.pt")
    check_writable(out)
    from itertools import chain

    import numpy as np

    import ssdtune
    from ssdtune.files import check_apart
    from ssdtune.mri.classifier import Classifier, save_classifier, train_classifier
    from ssdtune.mri.networks.train import check_free
    from ssdtune.mri.translation.domains import domain_files, read_domains
    from ssdtune.report.attack_figures import draw_flip

    picture = out.with_suffix(".png")
    check_apart(chain(domain_files(healthy), domain_files(lesion)), {"--out": out, "--out's picture": picture})
    for path in (out, picture):
        check_free(path, overwrite)
    width = 8
    domains = read_domains(healthy, lesion, size)
    if min(map(len, domains)) < 2:
        raise ConfigError("one image is too few", healthy, "name at least two of each: one is kept for the check")
    kept = [max(1, len(domain) // 10) for domain in domains]
    x, y = (domain[:-count] for domain, count in zip(domains, kept, strict=True))
    network = train_classifier(x, y, epochs=epochs, width=width, seed=seed, track=track)
    provenance = {"version": ssdtune.__version__, "epochs": epochs, "seed": seed, "size": size}
    found = Classifier(network, size, provenance)
    images = [(d[-k:, 0].numpy() + 1) / 2 for d, k in zip(domains, kept, strict=True)]
    rows, shown = [], (images[0][0], images[0][0], 0.0)
    for eps in LADDER:
        attacked = [np.stack([found.perturbed(image, eps) for image in each]) for each in images]
        logits = [np.array([found.logit(image) for image in each]) for each in attacked]
        right = [float((logits[0] < 0).mean()), float((logits[1] > 0).mean())]
        rows.append({"eps": eps, "healthy": right[0], "lesion": right[1], "accuracy": float(np.mean(right))})
        flipped = np.flatnonzero(logits[0] > 0)
        if eps and len(flipped) and not shown[2]:
            shown = (images[0][flipped[0]], attacked[0][flipped[0]], eps)
    save_classifier(out, found, width)
    draw_flip(picture, *shown, [found.logit(image) for image in shown[:2]])
    if as_json:
        print_json({"classifier": str(out), "picture": str(picture), "images": sum(kept), "attacks": rows})
        return
    columns = ["eps", "healthy", "lesion", "accuracy"]
    print_table(columns, [[row[key] for key in columns] for row in rows], f"told right, of {sum(kept)} unseen images")
    click.echo(f"{out}; {picture}")
