"""Every study file that comes with ssdtune is valid, and those after a publication hold its numbers."""

from pathlib import Path

import pytest

from ssdtune.studyfile import load_study_file

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_study_file_is_valid_and_named_as_its_file(path):
    assert load_study_file(path).name == path.stem


def test_m4raw_has_the_published_model_and_mask():
    study = load_study_file(STUDIES / "m4raw_ghost30.toml")
    train = study.train
    assert (train.cascades, train.channels, train.pools, train.sens_channels) == (12, 18, 4, 8)
    assert study.mask.acceleration == 4
    assert study.data.unknown


def test_fastmri_has_the_published_mask():
    mask = load_study_file(STUDIES / "fastmri_brain_knee.toml").mask
    assert (mask.kind, mask.acceleration, mask.center_fraction) == ("equispaced", 8, 0.04)
