"""Reconstructed images in the layout of fastMRI's submissions, for its own evaluation and for viewers.

One HDF5 file a volume, under the volume's name, with a dataset ``reconstruction`` (slices, h, w) float32, written by
``fastmri.save_reconstructions``; images are cut to the targets, as ``fastmri.evaluate`` compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ssdtune.device import full_precision
from ssdtune.errors import ConfigError, DataError
from ssdtune.files import check_writable
from ssdtune.mri.quality import center_crop
from ssdtune.progress import Track, silent
from ssdtune.task import Samples, Task, batches, sample_ids, sample_volumes


@full_precision()
@torch.no_grad()
def reconstruct(
    task: Task, params: Mapping[str, Tensor] | None, name: str, folder: Path, track: Track = silent
) -> list[Path]:
    """Reconstruct a scored set with ``params`` (None: the untouched model) into ``folder``; returns the new files.

    The folder appears when all files are whole; one volume is in memory at a time.

    Raises
    ------
    ConfigError : ``folder`` is there already.
    DataError : it cannot be written, or two volumes have one file name.
    """
    from fastmri import save_reconstructions

    check_free_folder(folder)
    samples = task.scored_sets[name]
    volumes = volumes_of(samples)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            whole = Path(scratch) / folder.name
            for volume, places in track(volumes.items(), f"reconstructing {name}", len(volumes)):
                images: list[np.ndarray] = []
                for batch in batches([samples[place] for place in places], 1, task.device):
                    output = center_crop(task.predict(params, batch.inputs), batch.target["image"])
                    images += list(output.float().cpu().numpy())
                save_reconstructions({Path(volume).name: np.stack(images)}, whole)
            whole.replace(folder)
    except OSError as reason:
        raise DataError(f"cannot write ({reason.strerror or reason})", folder, "choose another --out") from reason
    return sorted(folder.iterdir())


def volumes_of(samples: Samples) -> dict[str, list[int]]:
    """The samples of each volume, by its file's name.

    Raises DataError: two volumes have one file name.
    """
    found: dict[str, list[int]] = {}
    for place, volume in enumerate(sample_volumes(samples)):
        found.setdefault(volume, []).append(place)
    name, times = Counter(Path(volume).name for volume in found).most_common(1)[0]
    if times > 1 or not name:
        what = f"{times} volumes are called {name}" if name else f"{sample_ids(samples)[0]} is of no volume"
        raise DataError(what, "reconstruct", "give each file a name of its own")
    return found


def check_free_folder(folder: Path) -> None:
    """Refuse a folder that is there already, which raises ConfigError, or could not be made, which raises DataError."""
    if folder.exists():
        raise ConfigError("is there already", folder, "choose another --out")
    check_writable(folder)
