"""A small VarNet task over files of two sizes, and a way to dampen it."""

import pytest
import torch

from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.quality import LOSS_NAME, image_measures, training_loss
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Task


@pytest.fixture(scope="session")
def mri_task(tmp_path_factory, fastmri_file):
    """``mri_task(**changes)``; 8 retain slices of two sizes, 5 forget slices with clean targets, 3 unknown ones."""
    folder = tmp_path_factory.mktemp("slices")
    sets = {
        "retain": [
            fastmri_file(folder / f"retain{i}.h5", slices=n, coils=2, shape=shape, seed=i)
            for i, (n, shape) in enumerate([(3, (32, 32)), (3, (32, 36)), (2, (32, 32))])
        ],
        "forget": [fastmri_file(folder / "forget.h5", slices=5, coils=2, shape=(32, 32), seed=7, clean=True)],
        "unknown": [fastmri_file(folder / "unknown.h5", slices=3, coils=2, shape=(32, 32), seed=8, clean=True)],
    }
    sizes = TrainSection(cascades=2, channels=3, pools=2, sens_channels=2, sens_pools=2)

    def make(mask=None, seed=0, **changes):
        slices = {name: open_slices(files, mask or MaskSection(), "varnet") for name, files in sets.items()}
        settings = {
            "model": build_model(sizes.model_copy(update={"seed": seed})),
            "loss": training_loss,
            "retain": slices["retain"],
            "forget": slices["forget"],
            "quality": image_measures,
            "evaluation": {"unknown": slices["unknown"]},
            "loss_name": LOSS_NAME,
            "floor": 0.01,
        }
        return Task(**settings | changes)

    return make


@pytest.fixture(scope="session")
def dampened():
    """``dampened(task, factor, only="")``: the task's parameters whose names contain ``only``, times ``factor``."""

    def make(task, factor=0.9, only=""):
        generator = torch.Generator().manual_seed(0)
        return {
            name: value * (torch.rand(value.shape, generator=generator) * (1 - factor) + factor if only in name else 1)
            for name, value in task.params.items()
        }

    return make


@pytest.fixture(scope="session")
def many_slices(mri_task, tmp_path_factory, fastmri_file):
    """A task of 40 retain and 24 forget slices."""
    folder = tmp_path_factory.mktemp("many")
    retain = [fastmri_file(folder / f"r{i}.h5", slices=10, coils=2, shape=(32, 32), seed=i) for i in range(4)]
    forget = [fastmri_file(folder / f"f{i}.h5", slices=12, coils=2, shape=(32, 32), seed=9 + i) for i in range(2)]
    return mri_task(
        retain=open_slices(retain, MaskSection(), "varnet"), forget=open_slices(forget, MaskSection(), "varnet")
    )
