"""Attacks stay within their size, change more than chance does, and are the same each time."""

import numpy as np
import pytest
import torch

from ssdtune.errors import ConfigError
from ssdtune.mri.attack import attack, chosen_slices, worst_case
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.networks.models import build_model
from ssdtune.mri.phantom.simulate import simulate_folder
from ssdtune.mri.quality import image_measures, training_loss
from ssdtune.studyfile import MaskSection, TrainSection
from ssdtune.task import Task, batches

SMALL = {"cascades": 1, "channels": 2, "pools": 2, "sens_channels": 2, "sens_pools": 2}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brains")
    files = simulate_folder(folder, subjects=2, size=32, slices=2, coils=2)
    found = {}
    for architecture in ("varnet", "unet"):
        slices = open_slices(files, MaskSection(acceleration=3, center_fraction=0.15), architecture)
        model = build_model(TrainSection(architecture=architecture, **SMALL)).eval()
        found[architecture] = Task(model, training_loss, slices, slices, image_measures)
    return found


def perturbation(task, norm, eps):
    (batch,) = batches(chosen_slices(task.retain, 2), 2)
    ids = ["a", "b"]
    with torch.no_grad():
        before = task.predict(None, batch.inputs)
    inputs = worst_case(lambda x: task.predict(None, x), batch, before, norm, eps, 4, ids)
    return batch, (inputs[0] - batch.inputs[0])


def test_l2_is_bounded_and_in_sampled_lines_alone(tasks):
    batch, e = perturbation(tasks["varnet"], "l2", 0.05)
    sizes = e.flatten(1).norm(dim=1) / batch.inputs[0].flatten(1).norm(dim=1)
    assert (sizes <= 0.05 * (1 + 1e-4)).all() and (sizes > 0.045).all()
    assert not torch.where(batch.inputs[1], 0.0, e).any()


def test_linf_is_bounded_in_the_image(tasks):
    batch, e = perturbation(tasks["unet"], "linf", 0.02)
    std, top = batch.inputs[2], batch.target["max"]
    assert (e.abs().flatten(1).max(1).values * std <= 0.02 * top * (1 + 1e-4)).all()


@pytest.mark.parametrize(("architecture", "norm"), [("varnet", "l2"), ("varnet", "linf"), ("unet", "linf")])
def test_more_eps_changes_more_and_the_same_call_the_same(tasks, architecture, norm):
    task, samples = tasks[architecture], chosen_slices(tasks[architecture].retain, 3)
    changes = [attack(task, None, samples, norm, eps, steps=4).measures["change"].mean() for eps in (0, 0.01, 0.05)]
    assert changes[0] == 0 < changes[1] < changes[2]
    again = attack(task, None, samples, norm, 0.05, steps=4)
    assert again.measures["change"].mean() == pytest.approx(changes[2], rel=1e-4)
    assert again.images[0].shape == again.images[1].shape == (3, 32, 32)


def test_the_ascent_is_worse_than_its_start(tasks):
    task, samples = tasks["varnet"], chosen_slices(tasks["varnet"].retain, 2)
    (batch,) = batches(samples, 2)
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.standard_normal(batch.inputs[0].shape, np.float32)) * batch.inputs[1]
    noise *= (0.05 * batch.inputs[0].flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)).reshape(-1, 1, 1, 1, 1)
    with torch.no_grad():
        before, chance = (
            task.predict(None, (x, *batch.inputs[1:])) for x in (batch.inputs[0], batch.inputs[0] + noise)
        )
    by_chance = ((chance - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)).numpy()
    assert (attack(task, None, samples, "l2", 0.05, steps=8).measures["change"] > 1.2 * by_chance).all()


def test_what_cannot_be_attacked_is_refused(tasks):
    with pytest.raises(ConfigError, match="no k-space"):
        attack(tasks["unet"], None, tasks["unet"].retain, "l2", 0.05)
    with pytest.raises(ConfigError, match="eps"):
        attack(tasks["unet"], None, tasks["unet"].retain, "linf", -1.0)
