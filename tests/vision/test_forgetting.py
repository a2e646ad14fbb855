"""Forgetting problems on labelled images, and the classifier they use."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ssdtune.errors import ConfigError, DataError
from ssdtune.vision.forgetting import KINDS, accuracy, load_images, split
from ssdtune.vision.resnet9 import ResNet9
from ssdtune.vision.train import train_classifier

DATA = Path(os.environ.get("SSDTUNE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4
    x = (rng.integers(0, 60, (200, 16, 16)) + 60 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "tiny.npz", x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    return load_images(tmp_path / "tiny.npz")


def draw(images, kind, **changes):
    settings = {"label": 2, "train_size": 160, "forget_share": 0.1, "known_share": 0.5, "seed": 0, **changes}
    return split(images, kind, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_is_a_partition_drawn_by_seed(images, kind):
    one, again, other = draw(images, kind), draw(images, kind), draw(images, kind, seed=1)
    assert len(one.retain) + len(one.forget) + len(one.unknown) == 160
    assert torch.equal(one.forget.tensors[0], again.forget.tensors[0])
    assert not torch.equal(one.retain.tensors[0], other.retain.tensors[0])


def test_a_forgotten_class_is_in_no_retain_set(images):
    drawn = draw(images, "class")
    assert set(drawn.forget.tensors[1].tolist()) == {2}
    assert 2 not in drawn.retain.tensors[1]
    assert 2 not in drawn.retain_heldout.tensors[1]


def test_poisoned_labels_are_the_next_class_and_images_are_left_alone(images):
    drawn = draw(images, "label-poison")
    assert set(drawn.forget.tensors[1].tolist()) == {3}
    brightness = ((drawn.forget.tensors[0] + 1) * 127.5).mean((1, 2, 3))
    assert bool(((brightness > 120) & (brightness < 180)).all())


def test_unknown_kinds_and_empty_sets_are_refused(images):
    with pytest.raises(ConfigError, match="unknown forgetting kind"):
        draw(images, "colour")
    with pytest.raises(ConfigError, match="empty"):
        draw(images, "subset", forget_share=1.0, known_share=1.0)


def test_files_that_are_not_images_are_refused(tmp_path):
    (tmp_path / "x.npz").write_text("no")
    np.savez(tmp_path / "y.npz", x_train=np.zeros(1))
    for name in ("x.npz", "y.npz", "absent.npz"):
        with pytest.raises(DataError, match="cannot read images"):
            load_images(tmp_path / name)


def test_accuracy_of_non_finite_logits_is_not_a_number():
    output = torch.tensor([[1.0, 0.0], [0.0, 1.0], [float("nan"), 1.0]])
    assert accuracy(output, torch.tensor([0, 0, 1])).nan_to_num(-1).tolist() == [1.0, 0.0, -1.0]


def test_resnet9_learns_and_training_repeats(images):
    drawn = draw(images, "subset")
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        model = ResNet9(images.channels, images.classes, width=2)
        models.append(train_classifier(model, [drawn.retain], epochs=4, batch_size=16))
    x, y = drawn.retain.tensors
    torch.testing.assert_close(models[0](x), models[1](x), rtol=0.01, atol=0.01)  # rounding grows with every step
    assert accuracy(models[0](x), y).mean() > 0.6


@pytest.mark.skipif(not DATA.is_dir(), reason="no test data (set SSDTUNE_TEST_DATA)")
@pytest.mark.parametrize(("name", "shape"), [("mnist_24k.npz", (1, 28, 28)), ("cifar10_10k.npz", (3, 32, 32))])
def test_the_real_sets_load(name, shape):
    images = load_images(DATA / name)
    assert images.x_train.shape[1:] == shape
    assert images.classes == 10
    assert images.x_train.min() >= -1
    assert images.x_train.max() <= 1
