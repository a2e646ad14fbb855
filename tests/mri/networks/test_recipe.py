"""What a checkpoint says of its training is taken where the study leaves it open, and said where they differ."""

import argparse
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from ssdtune.mri.networks.checkpoint import Checkpoint
from ssdtune.mri.networks.models import load_model, save_new_model
from ssdtune.mri.networks.recipe import Recipe, recipe_of, settled
from ssdtune.mri.networks.stock import UnetSizes
from ssdtune.studyfile import MaskSection, StudyFile

SIZES = UnetSizes(channels=2, pools=1)


def study(mask=None, fisher=None):
    sections = {"mask": mask, "fisher": fisher}
    raw = {"name": "s", "model": {"checkpoint": "m.pt"}, "data": {"retain": "r", "forget": "f"}}
    return StudyFile.model_validate(raw | {key: value for key, value in sections.items() if value})


def lightning(**hyper_parameters):
    state = OrderedDict({"unet.x.weight": torch.ones(1)})
    payload = {"state_dict": state, "pytorch-lightning_version": "2", "hyper_parameters": hyper_parameters}
    return Checkpoint(Path("m.ckpt"), payload, "lightning", "state_dict")


NAMES = {"mask_type": "random", "center_fractions": [0.08, 0.04], "accelerations": [4, 8]}
PAIRS = ((4, 8), (0.08, 0.04))


@pytest.mark.parametrize(
    ("checkpoint", "recipe"),
    [
        (lightning(**NAMES), Recipe("random", PAIRS)),
        (lightning(mask_type="magic", center_fraction=0.08, acceleration=4.0), Recipe("magic", (4, 0.08))),
        (lightning(args=argparse.Namespace(**NAMES), chans=18), Recipe("random", PAIRS)),
        (lightning(chans=18, lr=1e-3), Recipe()),
        (lightning(mask_type="poisson", accelerations=[4, 8], center_fractions=[0.08]), Recipe()),
        (lightning(accelerations="4", center_fractions=None, mask_type=3), Recipe()),
    ],
)
def test_masks_are_read_under_the_names_in_use(checkpoint, recipe):
    assert recipe_of(checkpoint) == recipe


def test_what_the_study_leaves_open_is_taken_from_the_checkpoint():
    found, notes = settled(study(), lightning(**NAMES), "varnet")
    assert found.mask == MaskSection(kind="random", acceleration=(4, 8), center_fraction=(0.08, 0.04))
    assert notes == []
    again, notes = settled(found, lightning(mask_type="magic"), "varnet")  # what was settled stays so
    assert again == found
    assert len(notes) == 1


def test_a_difference_is_said_and_the_study_holds():
    found, (note,) = settled(study({"acceleration": 8}), lightning(**NAMES), "varnet")
    assert found.mask == MaskSection(kind="random", acceleration=8)
    assert "random 8x (centre 8 %), the checkpoint was trained with random 4x (centre 8 %) or 8x (centre 4 %)" in note
    assert settled(study({"kind": "random"}), lightning(**NAMES), "varnet")[1] == []


@pytest.mark.parametrize(("architecture", "loss"), [("varnet", "ssim"), ("unet", "l1")])
def test_the_loss_is_fastmris_for_the_architecture_unless_one_is_known(architecture, loss, tmp_path):
    assert settled(study(), lightning(), architecture)[0].fisher.loss == loss
    made = {"mask": {"kind": "magic", "acceleration": 2, "center_fraction": 0.2}, "training": {"loss": "ssim_l1"}}
    save_new_model(tmp_path / "m.pt", SIZES.reconstructor(), made)
    own = load_model(tmp_path / "m.pt").checkpoint
    found, notes = settled(study(), own, architecture)
    assert (found.fisher.loss, found.mask.kind, found.mask.acceleration, notes) == ("ssim-l1", "magic", 2, [])
    found, (note,) = settled(study(fisher={"loss": "ssim"}), own, architecture)
    assert found.fisher.loss == "ssim"
    assert "trained with ssim-l1" in note
