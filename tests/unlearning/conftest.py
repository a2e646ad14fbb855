"""A small classifier and a tiny VarNet over slices of two sizes, each with its Fisher analysis."""

import warnings

import pytest
import small_task
from other_tasks import plain_task, vision_task

from ssdtune.fisher.analysis import analyse
from ssdtune.mri.floors import zero_filled
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.quality import image_distance, image_measures, image_noise, training_loss
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Task


def varnet_task(folder, write):
    shapes = [(32, 32), (32, 36)]
    retain = [write(folder / f"retain{i}.h5", slices=4, coils=2, shape=shape) for i, shape in enumerate(shapes)]
    forget = [write(folder / "forget.h5", slices=3, coils=2, seed=7, shape=(32, 32))]
    sizes = TrainSection(cascades=1, channels=2, pools=2, sens_channels=2, sens_pools=2)
    return Task(
        model=build_model(sizes),
        loss=training_loss,
        retain=open_slices(retain, MaskSection(), "varnet"),
        forget=open_slices(forget, MaskSection(), "varnet"),
        quality=image_measures,
        floor=0.0,
        distance=image_distance,
        noise=image_noise,
        without_model=zero_filled,
    )


@pytest.fixture(scope="session", params=["varnet", "vision", "plain"])
def any_task(request, tmp_path_factory, fastmri_file):
    if request.param == "varnet":
        return varnet_task(tmp_path_factory.mktemp("any"), fastmri_file)
    return {"vision": vision_task, "plain": plain_task}[request.param]()


@pytest.fixture(scope="session", params=["classifier", "varnet"])
def problem(request, tmp_path_factory, fastmri_file):
    """(task, its analysis)"""
    if request.param == "classifier":
        task = small_task.make_task(oracle=True)
    else:
        task = varnet_task(tmp_path_factory.mktemp("slices"), fastmri_file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return task, analyse(task)
