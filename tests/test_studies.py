"""Every study file that comes with ssdtune is valid, and those after a publication hold its numbers."""

import shutil
from pathlib import Path

import pytest

from ssdtune.errors import DataError, ModelError
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.mri.task import load_task, open_sets
from ssdtune.studyfile import DEFAULT_METHOD, MethodSection, TrainSection, load_study_file

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_study_file_is_valid_and_named_as_its_file(path):
    assert load_study_file(path).name == path.stem


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_study_file_leaves_method_and_sampler_to_the_defaults(path):
    study = load_study_file(path)
    assert (study.method.name, study.search.sampler) == (DEFAULT_METHOD, "auto")
    assert study.method.model_dump() == MethodSection().model_dump()


def test_m4raw_has_the_published_model_and_mask():
    study = load_study_file(STUDIES / "m4raw_ghost30.toml")
    train = study.train
    assert (train.cascades, train.channels, train.pools, train.sens_channels) == (12, 18, 4, 8)
    assert study.mask.acceleration == 4
    assert study.data.unknown


def test_fastmri_has_the_published_mask():
    mask = load_study_file(STUDIES / "fastmri_brain_knee.toml").mask
    assert (mask.kind, mask.acceleration, mask.center_fraction) == ("equispaced", 8, 0.04)


@pytest.mark.parametrize("name", ["fastmri_brain_knee", "m4raw_ghost30", "real_anatomy"])
def test_all_that_a_study_of_real_data_lacks_are_the_files(name, tmp_path, fastmri_file):
    """Without data its files are refused by name; with files where the study file has them it loads."""
    path = tmp_path / "studies" / f"{name}.toml"
    path.parent.mkdir()
    shutil.copy(STUDIES / path.name, path)
    study = load_study_file(path)
    with pytest.raises(ModelError, match=study.model.checkpoint.name):
        load_task(path)
    with pytest.raises(DataError, match=r"retain set: .*[Nn]o such"):
        open_sets(study, "varnet")
    sizes = TrainSection(cascades=1, channels=2, pools=2, sens_channels=2, sens_pools=2)
    for place in (study.model.checkpoint, study.model.oracle):
        place.parent.mkdir(parents=True, exist_ok=True)
        save_new_model(place, build_model(sizes), {})
    sets = study.data.model_dump(include={"retain", "forget", "retain_heldout", "unknown", "unseen"}, exclude_none=True)
    for seed, place in enumerate(map(Path, sets.values())):
        listed = place.suffix == ".txt"
        folder = place.parent if listed else place
        fastmri_file(folder / f"{seed}.h5", slices=1, coils=2, shape=(64, 64), seed=seed, clean=listed)
        if listed:
            place.write_text(f"{seed}.h5\n")
    task = load_task(path)
    assert len(task.scored_sets) + 1 == len(sets)
    assert task.oracle is not None
