"""A lesion classifier is right, and is flipped by perturbations within their bound."""

import numpy as np
import pytest
import torch

from ssdtune.errors import ModelError
from ssdtune.mri.classifier import Classifier, load_classifier, save_classifier, train_classifier

ROUND = np.hypot(*np.mgrid[-1:1:32j, -1:1:32j]) < 0.8


@pytest.fixture(scope="module")
def domains():
    """Grey discs, with and without a bright spot."""
    rng = np.random.default_rng(0)
    healthy = ROUND * rng.uniform(0.25, 0.35, (40, 1, 32, 32))
    lesion = healthy.copy()
    for image, (y, x) in zip(lesion, rng.integers(10, 20, (40, 2)), strict=True):
        image[0, y : y + 4, x : x + 4] += 0.4
    return [torch.from_numpy(2 * each - 1).float() for each in (healthy, lesion)]


@pytest.fixture(scope="module")
def found(domains):
    return Classifier(train_classifier(*domains, epochs=25, width=4), 32, {})


def grey(domain, number):
    return (domain[number, 0].numpy() + 1) / 2


def test_it_tells_lesions_and_can_be_flipped(found, domains):
    healthy, lesion = ([found.logit(grey(domain, n)) for n in range(10)] for domain in domains)
    assert max(healthy) < 0 < min(lesion)
    for number in range(3):
        image = grey(domains[0], number)
        logits = [found.logit(found.perturbed(image, eps)) for eps in (0.0, 0.05, 0.3)]
        assert logits[0] == pytest.approx(healthy[number], abs=1e-4) and logits[0] < logits[1] < logits[2]


def test_a_pixel_moves_by_eps_at_most_and_only_in_the_body(found, domains):
    image = grey(domains[0], 0)
    change = found.corruption()(image, 0.05, np.random.default_rng()) - image
    assert 0 < np.abs(change).max() <= 0.05 * image.max() * (1 + 1e-4)
    assert not change[~ROUND].any()


def test_a_file_gives_the_same_back(found, domains, tmp_path):
    save_classifier(tmp_path / "c.pt", found, 4)
    again = load_classifier(tmp_path / "c.pt")
    assert again.logit(grey(domains[1], 0)) == found.logit(grey(domains[1], 0))
    torch.save({"kind": "other"}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="not a lesion classifier"):
        load_classifier(tmp_path / "other.pt")


def test_a_file_that_does_not_hold_together_is_refused(found, tmp_path):
    save_classifier(tmp_path / "c.pt", found, 4)
    sound = torch.load(tmp_path / "c.pt", weights_only=True)
    state = {name: value * float("nan") for name, value in sound["state"].items()}
    for change, words in (
        ({"width": 8}, "another network"),
        ({"width": 10**7}, "another network"),
        ({"width": None}, "another network"),
        ({"state": None}, "another network"),
        ({"state": state}, "not finite"),
        ({"size": "32"}, "no size"),
    ):
        torch.save(sound | change, tmp_path / "bad.pt")
        with pytest.raises(ModelError, match=words):
            load_classifier(tmp_path / "bad.pt")
