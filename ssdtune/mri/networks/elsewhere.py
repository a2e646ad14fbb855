"""The same training by fastMRI's own examples, as commands for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ssdtune.studyfile import StudyFile

# what --mask_type of fastMRI's example scripts takes
_OFFERED = ("random", "equispaced_fraction")


def fastmri_commands(study: StudyFile, sets: Mapping[str, Sequence[Path]], folder: Path) -> str:
    """Commands that link the files of ``sets`` where fastMRI looks for them, and train on them.

    sets : the files by set; ``retain_heldout`` validates, the others are trained on. folder : made by the commands.
    To be run in a checkout of github.com/facebookresearch/fastMRI, whose examples they call.
    """
    train, mask = study.train, study.mask
    places = {"train": [f for name, files in sets.items() if name != "retain_heldout" for f in files]}
    places["val"] = list(sets.get("retain_heldout", sets["retain"]))
    lines = ["set -e"]
    for place, files in places.items():
        lines += _links(files, folder.absolute() / f"multicoil_{place}")
    if mask.kind not in _OFFERED:
        lines.append(f"# add '{mask.kind}' to the choices of --mask_type in the script: fastMRI has the mask")
    options: dict[str, object] = {
        "challenge": "multicoil",
        "data_path": folder.absolute(),
        "mask_type": mask.kind,
        "center_fractions": mask.center_fractions,
        "accelerations": mask.accelerations,
    }
    if train.architecture == "varnet":
        sizes = {"num_cascades": train.cascades, "chans": train.channels, "pools": train.pools}
        options |= sizes | {"sens_chans": train.sens_channels, "sens_pools": train.sens_pools}
    else:
        options |= {"chans": train.channels, "num_pool_layers": train.pools}
    options |= {
        "lr": train.learning_rate,
        "lr_step_size": max(1, 4 * train.epochs // 5),
        "batch_size": train.batch_size,
        "max_epochs": train.epochs,
        "seed": train.seed,
        "default_root_dir": folder.absolute() / "logs",
    }
    script = f"fastmri_examples/{train.architecture}/train_{train.architecture}_demo.py"
    words = ["python", script]
    for name, value in options.items():
        words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return "\n".join([*lines, shlex.join(words)])


def _links(files: Iterable[Path], folder: Path) -> list[str]:
    lines = [f"mkdir -p {shlex.quote(str(folder))}"]
    taken: set[str] = set()
    for file in files:
        # fastMRI seeds the fixed masks by the file's name; a name that is taken gets its folder's before it
        name = file.name if file.name not in taken else f"{file.absolute().parent.name}_{file.name}"
        taken.add(name)
        lines.append(shlex.join(["ln", "-s", str(file.resolve()), str(folder / name)]))
    return lines
