"""Pictures show the target's grid, the task's own measures, and error maps of what they say."""

from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
import torch

from ssdtune.errors import ConfigError, DataError
from ssdtune.report.panels import draw_pictures, draw_side_by_side
from ssdtune.report.pictures import slice_pictures, write_hero, write_pictures
from ssdtune.task import Task


def test_untouched_model_reproduces_its_targets(image_task, halved):
    pictures = slice_pictures(image_task, halved, "retain", count=2)
    assert [picture.sample_id for picture in pictures] == ["brain_1.h5:0", "brain_3.h5:0"]
    for picture in pictures:
        assert picture.original.shape == picture.target.shape == (12, 12)
        np.testing.assert_array_equal(picture.original, picture.target)
        np.testing.assert_allclose(picture.unlearned, picture.target / 2)
        np.testing.assert_allclose(picture.error("unlearned"), picture.target / 2)
        assert picture.error("original").max() == 0
        assert picture.clean is None


def test_measures_are_the_tasks(image_task, halved):
    picture = slice_pictures(image_task, halved, "forget", count=1)[0]
    assert picture.before["ssim"] == pytest.approx(1.0)
    assert picture.after["ssim"] == pytest.approx(1 - np.abs(picture.target / 2).mean(), abs=1e-6)
    assert picture.after["clean_ssim"] == pytest.approx(1 - picture.error("unlearned", "clean").mean(), abs=1e-6)


def test_more_pictures_than_slices_shows_each_once(image_task, halved):
    pictures = slice_pictures(image_task, halved, "forget", count=10)
    assert [picture.sample_id for picture in pictures] == ["knee_0.h5:0", "knee_1.h5:0", "knee_2.h5:0"]


def test_pixels_show_the_error_map(image_task, halved, tmp_path):
    """A perfect reconstruction has a black error map; the halved one is bright: read back from the PNG."""
    path = draw_pictures(slice_pictures(image_task, halved, "retain", count=1), tmp_path / "one.png", "one")
    pixels = matplotlib.image.imread(path)[..., :3]
    height, width = pixels.shape[:2]
    # panels are 1.75 inch at 130 dpi after a 0.5 inch margin; sample inside the two error panels
    panel, left = 1.75 * 130, 0.5 * 130
    rows = slice(int(height * 0.5), int(height * 0.6))
    original, unlearned = (
        pixels[rows, int(left + (place + 0.3) * panel) : int(left + (place + 0.6) * panel)] for place in (3, 4)
    )
    assert width > left + 5 * panel - panel / 2
    assert original.max() < 0.05
    assert unlearned.mean() > 0.3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a$_b$.h5", r"$\frac$", "\u6f22\u5b57.h5", "tab\t.h5", "50% {x}"])
def test_names_of_any_kind_are_texts(image_task, halved, tmp_path, name):
    picture = replace(slice_pictures(image_task, halved, "retain", count=1)[0], sample_id=name)
    draw_pictures([picture], tmp_path / "one.png", name)
    draw_side_by_side({name: picture}, tmp_path / "other.webp", name)


def test_every_scored_set_gets_a_picture(image_task, halved, tmp_path):
    written = write_pictures(image_task, halved, tmp_path)
    assert set(written) == {"retain", "forget"}
    assert {path.name for path in tmp_path.iterdir()} == {"before_after_retain.png", "before_after_forget.png"}
    assert write_hero(image_task, halved, tmp_path / "hero.png", "hero").stat().st_size > 1000


def test_non_finite_reconstruction_is_drawn(image_task, tmp_path):
    pictures = slice_pictures(
        image_task, {"gain": torch.tensor(1.0), "memory": torch.tensor(float("nan"))}, "forget", count=1
    )
    assert draw_pictures(pictures, tmp_path / "nan.png", "nan").exists()


def test_targets_that_are_no_images_are_refused(halved):
    samples = [(torch.zeros(3), torch.tensor(0))]
    task = Task(torch.nn.Linear(3, 3), lambda o, t: o.mean(), samples, samples, lambda o, t: o.mean(1))
    with pytest.raises(ConfigError, match="targets are not images"):
        slice_pictures(task, {}, "retain")


def test_unknown_set_is_refused(image_task, halved):
    with pytest.raises(ConfigError, match="no set 'unknown'"):
        slice_pictures(image_task, halved, "unknown")


def test_unwritable_folder_leaves_nothing(image_task, halved, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        draw_pictures(slice_pictures(image_task, halved, "retain", 1), tmp_path / "file" / "x.png", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
