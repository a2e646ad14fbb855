"""CycleGAN: domains of any kind, a training that goes on where it stopped, and a translator as a corruption."""

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.mri.phantom.simulate import simulate_folder
from ssdtune.mri.poison import poison_folder
from ssdtune.mri.translation import train
from ssdtune.mri.translation.domains import read_domain, squared, to_range, unsquared
from ssdtune.mri.translation.networks import Generator, discriminator
from ssdtune.mri.translation.train import train_translator
from ssdtune.mri.translation.translator import Translator, check, load_translator, save_translator

SMALL = {"width": 2, "blocks": 1}


@pytest.fixture(scope="module")
def knees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knees")
    simulate_folder(folder, anatomy="knee", subjects=2, size=(40, 32), slices=2, coils=1)
    return folder


@pytest.fixture
def translator(tmp_path):
    torch.manual_seed(0)
    network = Generator(**SMALL)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, 0, 0.3)
    path = tmp_path / "translator.pt"
    save_translator(path, network, 32, SMALL, {"seed": 0})
    return path


def test_networks_keep_the_size_and_judge_patches():
    x = torch.rand(2, 1, 32, 32) * 2 - 1
    found = Generator(**SMALL)(x)
    assert found.shape == x.shape and found.abs().max() <= 1
    assert discriminator(2)(x).shape == (2, 1, 6, 6)
    torch.testing.assert_close(found, x)  # it begins as the identity


def test_domains_are_read_from_every_kind_of_file(knees, tmp_path):
    domain = read_domain(knees, 32)
    assert domain.shape == (4, 1, 32, 32) and domain.min() >= -1 and domain.max() <= 1
    with h5py.File(sorted(knees.iterdir())[0]) as file:
        images = file["reconstruction_rss"][()]
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = np.concatenate([images, np.zeros_like(images[:1])])  # beyond the head: left out
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(np.uint8(255 * image / image.max())).save(tmp_path / f"pictures/{number}.png")
    (tmp_path / "both").mkdir()
    (tmp_path / "both/a.h5").symlink_to(sorted(knees.iterdir())[0])
    (tmp_path / "both/preview.png").write_text("not looked at")
    assert torch.equal(read_domain(tmp_path / "both", 32), domain[:2])
    for other, tolerance in (("images.h5", 1e-6), ("pictures", 0.05)):
        torch.testing.assert_close(read_domain(tmp_path / other, 32), domain[:2], atol=tolerance, rtol=0)


def test_what_is_no_domain_is_refused(knees, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_text("no picture")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file["images"] = np.zeros((2, 32, 32), np.float32)
    for path, message in (("none", "no such"), ("bad", "not a picture"), ("empty.h5", "no image shows a body")):
        with pytest.raises(DataError, match=message):
            read_domain(tmp_path / path, 32)


def test_squared_is_undone():
    image = np.random.default_rng(0).random((24, 32), np.float32)
    assert np.array_equal(unsquared(squared(image, 32), (24, 32)), image)
    smooth = np.outer(np.hanning(48), np.hanning(40)).astype(np.float32)
    assert np.abs(unsquared(squared(smooth, 32), (48, 40)).numpy() - smooth).max() < 0.03


def test_a_lesion_hardly_moves_the_range_of_tissue(knees):
    with h5py.File(sorted(knees.iterdir())[0]) as file:
        image = torch.from_numpy(file["reconstruction_rss"][0])
    brighter = image.clone()
    brighter[16:21, 14:19] += 2 * image.max()
    assert to_range(brighter)[1] == pytest.approx(to_range(image)[1], rel=0.1)


@pytest.mark.parametrize("within", [False, True], ids=["between-steps", "within-a-step"])
def test_a_stopped_training_ends_where_an_unbroken_one_does(within, knees, tmp_path, monkeypatch):
    domain = read_domain(knees, 32)
    whole = train_translator(domain, domain.flip(-2), steps=4, **SMALL)
    resume = tmp_path / "resume"

    def stop(items, *_):
        for number, item in enumerate(items):
            if number == 2 and within:
                patch.setattr(train, "_buffered", interrupt)
            elif number == 2:
                raise KeyboardInterrupt
            yield item

    def interrupt(*_):  # generators are a step ahead
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        train_translator(domain, domain.flip(-2), steps=4, resume=resume, track=stop, **SMALL)
    with pytest.raises(ConfigError, match="other settings"):
        train_translator(domain, domain.flip(-2), steps=5, resume=resume, **SMALL)
    gone_on = train_translator(domain, domain.flip(-2), steps=4, resume=resume, **SMALL)
    np.testing.assert_allclose(gone_on.losses, whole.losses, rtol=1e-4)
    for name, value in whole.networks.state_dict().items():
        torch.testing.assert_close(gone_on.networks.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_a_resume_file_that_does_not_hold_together_is_one_error(knees, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SAVE_EVERY_SECONDS", -1.0)
    domain, resume = read_domain(knees, 32), tmp_path / "resume"
    train_translator(domain, domain, steps=1, resume=resume, **SMALL)
    sound = torch.load(resume)
    wide = torch.zeros(1, 1, 48, 48)
    for change in (
        {"settings": None},
        {"networks": sound["generators"]},
        {"generators": sound["discriminators"]},
        {"losses": [[1.0, 2.0]]},
        {"losses": 1},
        {"fakes": sound["fakes"][:1]},
        {"fakes": [wide, wide]},
    ):
        torch.save(sound | change, resume)
        with pytest.raises(ModelError, match=r"damaged resume file.*delete it to start over"):
            train_translator(domain, domain, steps=1, resume=resume, **SMALL)


def test_training_lowers_the_cycle(knees):
    domain = read_domain(knees, 32)
    losses = np.array(train_translator(domain, 0.5 * domain, steps=40, **SMALL).losses)
    assert losses.shape == (40, 4) and losses[-10:, 2].mean() < losses[:10, 2].mean()


def test_a_translator_is_a_corruption(knees, translator, tmp_path):
    corruption = load_translator(translator).corruption()
    with h5py.File(sorted(knees.iterdir())[0]) as file:
        image = file["reconstruction_rss"][0]
    far = [np.linalg.norm(corruption(image, a, np.random.default_rng()) - image) for a in (0.0, 0.3, 1.0)]
    assert far[0] == 0 < far[1] < far[2]
    scaled = corruption(1e-4 * image, 1.0, np.random.default_rng())
    np.testing.assert_allclose(1e4 * scaled, corruption(image, 1.0, np.random.default_rng()), atol=1e-3)
    assert not corruption(np.zeros_like(image), 1.0, np.random.default_rng()).any()
    manifest = poison_folder(knees, tmp_path / "out", kind="cyclegan", model=translator, amplitude=1.0, fraction=1.0)
    assert manifest.model == translator.name and len(manifest.model_sha256) == 64
    assert all(file.nmse > 0 for file in manifest.files)


def test_a_model_is_named_exactly_where_a_kind_has_one(knees, translator, tmp_path):
    for options in ({"kind": "cyclegan"}, {"kind": "lesion", "model": translator}):
        with pytest.raises(ConfigError, match="model"):
            poison_folder(knees, tmp_path / "out", **options)
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        poison_folder(knees, tmp_path / "out", kind="cyclegan", model=tmp_path / "other.pt")
    assert not (tmp_path / "out").exists()


def test_the_check_tells_lesions_from_the_rest(knees):
    images = (read_domain(knees, 32)[:, 0].numpy() + 1) / 2
    with_lesion = images.copy()
    level = [np.quantile(image[image > 0.15 * np.quantile(image, 0.98)], 0.95) for image in images]
    with_lesion[:3, 12:18, 12:18] += 0.6 * np.array(level[:3])[:, None, None]
    found = check(images, with_lesion)
    assert found.lesioned == 0.75 and found.contrast == pytest.approx(0.6, rel=1e-3)
    assert found.outside_nmse == pytest.approx(0, abs=1e-9)
    unchanged = check(images, images)
    assert (unchanged.lesioned, unchanged.outside_nmse) == (0, 0)


def test_a_network_that_adds_nothing_changes_nothing():
    image = np.random.default_rng(0).random((30, 34), np.float32)
    assert np.abs(Translator(Generator(**SMALL), 32, {}).change(image)).max() < 1e-6


def test_a_translator_that_does_not_hold_together_is_refused(translator, tmp_path):
    sound = torch.load(translator, weights_only=True)
    wider = {**sound["sizes"], "width": sound["sizes"]["width"] + 1}
    for change, words in (({"sizes": wider}, "another network"), ({"sizes": 3}, "another"), ({"size": 33}, "no size")):
        torch.save(sound | change, tmp_path / "bad.pt")
        with pytest.raises(ModelError, match=words):
            load_translator(tmp_path / "bad.pt")
