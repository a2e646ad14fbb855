"""The toy of two digits: what is read of an embedding, on images of two kinds that anybody can tell apart."""

import pytest
import torch

from benchmarks.mnist_toy import FORGOTTEN, KEPT, embeddings, make, separation, spectrum_of
from ssdtune.vision.forgetting import Images


@pytest.fixture(scope="module")
def toy():
    """Kept images are bright above, forgotten ones below."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([KEPT, FORGOTTEN]).repeat(40)
    x = torch.rand(80, 1, 28, 28, generator=generator) - 1
    x[labels == KEPT, :, :14] += 1
    x[labels == FORGOTTEN, :, 14:] += 1
    return make(Images(x, labels, x, labels), seed=0, count=30, epochs=12)


def test_a_trained_model_is_right_and_its_embedding_is_read(toy):
    found = separation(toy, toy.models["original"])
    assert found["accuracy"] == found["retain"] == found["probe"] == 1
    assert found["silhouette"] > 0.5
    assert embeddings(toy, toy.models["original"])["kept"].shape == (40, 2)


def test_the_oracle_is_wrong_on_what_it_never_saw(toy):
    found = separation(toy, toy.models["oracle"])
    assert found["retain"] == 1 and found["accuracy"] == 0


def test_nothing_is_read_of_an_embedding_that_is_one_point(toy):
    constant = {name: torch.zeros_like(value) for name, value in toy.models["original"].items()}
    found = separation(toy, constant)
    assert found["probe"] == found["nearest"] == 0.5 and found["silhouette"] == 0


def test_eigenvalues_fall(toy):
    values = spectrum_of(toy)["forget"]
    assert (values[:-1] >= values[1:]).all() and values[0] > 0
