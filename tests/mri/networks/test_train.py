"""Training learns, resumes to the bit, and leaves nothing half-written."""

import copy
import itertools
import json
import shlex
import subprocess

import fastmri
import numpy as np
import pytest
import torch

from ssdtune.errors import ConfigError, DataError, ModelError
from ssdtune.mri.networks import train as training
from ssdtune.mri.networks.checkpoint import read_provenance
from ssdtune.mri.networks.elsewhere import fastmri_commands
from ssdtune.mri.networks.mixed import mixed_precision
from ssdtune.mri.networks.models import build_model, load_model
from ssdtune.mri.networks.train import Joined, train
from ssdtune.studyfile import StudyFile, TrainSection

SECTION = TrainSection(cascades=1, channels=2, pools=2, sens_channels=2, sens_pools=2)
RATE = 1e-2


def disc(size, centre, coils=2):
    """One sample: a bright disc seen by coils of linear sensitivity, every other line sampled, 8 centre lines."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    image = 0.2 + ((x - centre) ** 2 + y**2 < 0.3).float() * torch.cos(8 * x).abs()
    sens = torch.stack([1.5 + x, 1.5 - y][:coils])
    kspace = fastmri.fft2c(torch.stack((image * sens, torch.zeros_like(sens)), -1))
    acs = torch.zeros(1, 1, size, 1, dtype=torch.bool)
    acs[:, :, size // 2 - 4 : size // 2 + 4] = True
    mask = acs.clone()
    mask[:, :, ::2] = True
    target = fastmri.rss(image * sens)
    return (torch.where(mask, kspace, 0.0), mask, acs), {"image": target, "max": target.max()}


SAMPLES = [disc(32, shift / 10) for shift in range(4)]
MIXED = [disc(32, 0.1), disc(48, 0.0), disc(32, -0.1), disc(48, 0.2), disc(32, 0.3)]


def weights(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def same_end(one, other, start):
    """Whether two trainings ended at the same weights, to a thousandth of the way they went.

    Stopped or not, the steps are the same ones; the last bits of a convolution are its CPU's.
    """
    one, other, start = weights(one), weights(other), weights(start)
    return (one - other).norm() <= 1e-3 * (other - start).norm()


class Stop:
    """A track that presses Ctrl-C before item number ``after``."""

    def __init__(self, after):
        self.after = after

    def __call__(self, items, description, total):
        yield from itertools.islice(items, self.after)
        raise KeyboardInterrupt


def test_training_lowers_the_loss_and_ends_in_eval_mode():
    model = build_model(SECTION)
    losses = train(model, SAMPLES, epochs=8, learning_rate=RATE)
    assert len(losses) == 8
    assert losses[-1] < 0.7 * losses[0]
    assert not model.training


def test_unet_trains():
    model = build_model(SECTION.model_copy(update={"architecture": "unet"}))
    samples = []
    for (kspace, _, _), target in SAMPLES:
        image = fastmri.rss(fastmri.complex_abs(fastmri.ifft2c(kspace)))
        samples.append((((image - image.mean()) / image.std(), image.mean(), image.std()), target))
    losses = train(model, samples, epochs=4, learning_rate=RATE, batch_size=2)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("after", [1, 4, 6, 11])
def test_a_stopped_training_ends_where_an_uninterrupted_one_does(tmp_path, after, monkeypatch):
    """4 epochs of 3 steps, stopped in the first, at an epoch's end, within one, and again a step later."""
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)  # every step
    options = {"epochs": 4, "learning_rate": RATE, "batch_size": 2, "seed": 5}
    start = build_model(SECTION)
    whole = copy.deepcopy(start)
    losses = train(whole, MIXED, **options)

    out = tmp_path / "model.pt"
    for stop in (after, 1):
        with pytest.raises(KeyboardInterrupt):
            train(copy.deepcopy(start), MIXED, checkpoint=out, track=Stop(stop), **options)
        assert [path.name for path in tmp_path.iterdir()] == ["model.pt.resume"]
    last = copy.deepcopy(start)
    assert train(last, MIXED, checkpoint=out, **options) == pytest.approx(losses, rel=1e-4)
    assert same_end(last, whole, start)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert torch.equal(weights(load_model(out).module), weights(last))


def test_two_epochs_and_two_more_are_four_with_a_file_an_epoch(tmp_path):
    start = build_model(SECTION)
    whole = copy.deepcopy(start)
    train(whole, SAMPLES, epochs=4, learning_rate=RATE)
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(start), SAMPLES, epochs=4, learning_rate=RATE, checkpoint=tmp_path / "m.pt", track=Stop(9))
    kept = torch.load(tmp_path / "m.pt.resume")
    assert (kept["epoch"], kept["step"]) == (2, 0)
    train(copy.deepcopy(start), SAMPLES, epochs=4, learning_rate=RATE, checkpoint=tmp_path / "m.pt")
    assert same_end(load_model(tmp_path / "m.pt").module, whole, start)


@pytest.mark.parametrize("after", [4, 6])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(tmp_path, after, monkeypatch):
    """In one process, on one thread of the CPU, which then computes everything twice alike."""
    monkeypatch.setattr(training, "SAVE_EVERY_SECONDS", 0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        options = {"epochs": 3, "learning_rate": RATE, "batch_size": 2, "seed": 5, "validation": SAMPLES[:2]}
        start = build_model(SECTION)
        whole, last = copy.deepcopy(start), copy.deepcopy(start)
        losses = train(whole, MIXED, checkpoint=tmp_path / "whole.pt", **options)
        with pytest.raises(KeyboardInterrupt):
            train(copy.deepcopy(start), MIXED, checkpoint=tmp_path / "m.pt", track=Stop(after), **options)
        assert train(last, MIXED, checkpoint=tmp_path / "m.pt", **options) == losses
    finally:
        torch.set_num_threads(threads)
    kept = last.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in whole.state_dict().items())
    assert not torch.equal(weights(last), weights(start))


class Epochs(list):
    """Samples that are others in each epoch."""

    def for_epoch(self, epoch):
        return [disc(32, epoch / 10 + shift / 20) for shift in range(4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_of_their_own_for_each_epoch_are_resumed_and_read_ahead(tmp_path, workers):
    options = {"epochs": 3, "learning_rate": RATE, "validation": SAMPLES[:2]}
    start = build_model(SECTION)
    frozen, whole, last = (copy.deepcopy(start) for _ in range(3))
    train(frozen, SAMPLES, **options)
    train(whole, Joined([Epochs(SAMPLES)]), checkpoint=tmp_path / "whole.pt", **options)
    out = tmp_path / "m.pt"
    with pytest.raises(KeyboardInterrupt):
        train(copy.deepcopy(start), Joined([Epochs(SAMPLES)]), checkpoint=out, track=Stop(6), **options)
    train(last, Joined([Epochs(SAMPLES)]), checkpoint=out, workers=workers, **options)
    assert same_end(last, whole, start)
    assert not same_end(frozen, whole, start)
    found, wanted = (read_provenance(path)["training"]["validation"] for path in (out, tmp_path / "whole.pt"))
    assert found == pytest.approx(wanted, rel=1e-4)
    assert len(found) == 3
    with torch.no_grad():
        last_loss = np.mean([float(training.training_loss(last(*(i[None] for i in inputs)), one(target)))
                             for inputs, target in SAMPLES[:2]])  # fmt: skip
    assert found[-1] == pytest.approx(last_loss, rel=1e-4)


def one(target):
    return {name: value[None] for name, value in target.items()}


def test_mixed_precision_is_for_gpus_and_casts_the_unets_alone():
    with pytest.raises(ConfigError, match="mixed precision needs a CUDA GPU"):
        train(build_model(SECTION), SAMPLES, epochs=1, precision="bfloat16")
    model, (inputs, _) = build_model(SECTION).eval(), SAMPLES[0]
    batch = [value[None] for value in inputs]
    with torch.no_grad():
        whole = model(*batch)
        with mixed_precision(model, "bfloat16"):
            half = model(*batch)
        again = model(*batch)
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    torch.testing.assert_close(half, whole, rtol=0.1, atol=0.05 * float(whole.max()))
    torch.testing.assert_close(again, whole)


@pytest.mark.parametrize("architecture", ["varnet", "unet"])
def test_fastmris_commands_link_the_files_and_name_every_setting(tmp_path, architecture):
    files = {"retain": [tmp_path / "a b.h5", tmp_path / "x" / "c.h5"], "retain_heldout": [tmp_path / "v.h5"]}
    for file in (*files["retain"], *files["retain_heldout"]):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    raw = {"name": "s", "model": {"checkpoint": "m"}, "data": {"retain": "r", "forget": "f"}}
    raw |= {"train": {"architecture": architecture, "epochs": 10}, "mask": {"acceleration": [4, 8]}}
    raw["mask"]["center_fraction"] = [0.08, 0.04]
    script = fastmri_commands(StudyFile.model_validate(raw), files, tmp_path / "to train")
    *links, last = script.splitlines()
    subprocess.run(["bash", "-c", "\n".join(links)], check=True)
    assert sorted(p.name for p in (tmp_path / "to train" / "multicoil_train").iterdir()) == ["a b.h5", "c.h5"]
    assert (tmp_path / "to train" / "multicoil_val" / "v.h5").resolve() == files["retain_heldout"][0]
    words = shlex.split(last)
    assert words[1] == f"fastmri_examples/{architecture}/train_{architecture}_demo.py"
    at = {word: words[index + 1 : index + 3] for index, word in enumerate(words) if word.startswith("--")}
    assert at["--accelerations"] == ["4", "8"]
    assert at["--center_fractions"] == ["0.08", "0.04"]
    assert at["--mask_type"][0] == "equispaced_fraction"
    assert at["--lr_step_size"][0] == "8"
    assert ("--num_cascades" in at) == (architecture == "varnet")


def test_order_depends_on_the_seed_alone():
    start = build_model(SECTION)
    ends = []
    for seed in (1, 1, 2):
        model = copy.deepcopy(start)
        torch.rand(3)
        train(model, SAMPLES, epochs=1, learning_rate=RATE, seed=seed)
        ends.append(model)
    assert same_end(ends[0], ends[1], start)
    assert not same_end(ends[0], ends[2], start)


def test_every_sample_is_seen_once_an_epoch_and_shapes_are_not_mixed():
    seen = []

    class Watched(list):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    train(build_model(SECTION), Watched(MIXED), epochs=2, batch_size=2)
    assert seen.pop(5) == 0  # the warm-up, after the look at the shapes
    epochs = [sorted(seen[at : at + 5]) for at in (0, 5, 10)]
    assert epochs == 3 * [[0, 1, 2, 3, 4]]


def test_learning_rate_is_a_tenth_in_the_last_fifth():
    assert [training._decay(epoch, 50) for epoch in (0, 39, 40, 49)] == [1.0, 1.0, 0.1, 0.1]
    assert training._decay(0, 1) == 1.0


def test_the_checkpoint_tells_how_it_was_trained(tmp_path):
    losses = train(build_model(SECTION), SAMPLES, epochs=1, checkpoint=tmp_path / "m.pt", provenance={"study": "s"})
    kept = read_provenance(tmp_path / "m.pt")
    assert kept["study"] == "s"
    assert kept["training"] == {
        "epochs": 1,
        "learning_rate": 3e-4,
        "batch_size": 1,
        "seed": 0,
        "loss": "ssim_l1",
        "precision": "float32",
        "final_loss": losses[-1],
    }
    json.dumps(kept)


def test_a_finished_checkpoint_is_not_overwritten_unless_asked(tmp_path):
    out = tmp_path / "m.pt"
    out.write_text("mine")
    with pytest.raises(ConfigError, match=r"already there.*--overwrite"):
        train(build_model(SECTION), SAMPLES, epochs=1, checkpoint=out)
    assert out.read_text() == "mine"
    train(build_model(SECTION), SAMPLES, epochs=1, checkpoint=out, overwrite=True)
    load_model(out)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"learning_rate": 1e-3}, r"learning_rate 0\.01 there, 0\.001 here"),
        ({"epochs": 3, "seed": 1}, "epochs 2 there, 3 here; seed 0 there, 1 here"),
        ({"samples": SAMPLES[:3]}, "other training data"),
        ({"model": SECTION.model_copy(update={"seed": 9})}, "another starting model"),
    ],
)
def test_a_resume_file_of_another_training_is_refused(tmp_path, change, match):
    out = tmp_path / "m.pt"
    settings = {"samples": SAMPLES, "epochs": 2, "learning_rate": RATE, "seed": 0, "model": SECTION}

    def run(overwrite=False, stop=None, **changed):
        options = settings | changed
        options["model"] = build_model(options["model"])
        extra = {"track": Stop(stop)} if stop else {}
        train(checkpoint=out, overwrite=overwrite, **options, **extra)

    with pytest.raises(KeyboardInterrupt):
        run(stop=5)
    kept = (tmp_path / "m.pt.resume").read_bytes()
    with pytest.raises(ConfigError, match=match):
        run(**change)
    assert (tmp_path / "m.pt.resume").read_bytes() == kept
    run(overwrite=True, **change)
    assert out.exists()


def test_a_resume_file_in_which_no_work_is_kept_gives_way_to_other_settings(tmp_path):
    """A first epoch that diverged may be tried again at once with a lower learning rate."""
    options = {"epochs": 1, "checkpoint": tmp_path / "m.pt"}
    with pytest.raises(ModelError, match="loss became"):
        train(build_model(SECTION), SAMPLES, learning_rate=1e30, **options)
    train(build_model(SECTION), SAMPLES, learning_rate=RATE, **options)


def test_a_damaged_resume_file_is_one_error(tmp_path):
    for content in (b"", b"PK\x03\x04"):
        (tmp_path / "m.pt.resume").write_bytes(content)
        with pytest.raises(ModelError, match=r"m\.pt\.resume, delete it to start over"):
            train(build_model(SECTION), SAMPLES, epochs=1, checkpoint=tmp_path / "m.pt")
    torch.save({"format": 99}, tmp_path / "m.pt.resume")
    with pytest.raises(ModelError, match="not a resume file of this version"):
        train(build_model(SECTION), SAMPLES, epochs=1, checkpoint=tmp_path / "m.pt")


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.update(settings=3),
        lambda kept: kept.pop("epoch"),
        lambda kept: kept.update(losses=["low"]),
        lambda kept: kept.update(step="2"),
        lambda kept: kept.update(model=kept["optimizer"]),
        lambda kept: kept["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
        lambda kept: kept["optimizer"]["param_groups"][0].update(betas="none"),
    ],
)
def test_a_resume_file_that_does_not_hold_together_is_one_error(tmp_path, change):
    out = tmp_path / "m.pt"
    with pytest.raises(KeyboardInterrupt):
        train(build_model(SECTION), SAMPLES[:1], epochs=2, checkpoint=out, track=Stop(1))
    kept = torch.load(tmp_path / "m.pt.resume")
    change(kept)
    torch.save(kept, tmp_path / "m.pt.resume")
    with pytest.raises(ModelError, match=r"damaged resume file.*delete it to start over"):
        train(build_model(SECTION), SAMPLES[:1], epochs=2, checkpoint=out)


def test_a_non_finite_loss_is_one_clear_error(tmp_path):
    inputs, target = SAMPLES[0]
    broken = (inputs, target | {"image": target["image"] * torch.nan})
    with pytest.raises(ModelError, match=r"loss became nan in epoch 1, step 1.*learning_rate"):
        train(build_model(SECTION), [broken], epochs=1, checkpoint=tmp_path / "m.pt")
    assert not (tmp_path / "m.pt").exists()


def test_weights_that_became_non_finite_are_not_saved(tmp_path):
    def nan_gradient(output, target):
        return (output.mean() * 0).sqrt()  # 0, with a NaN gradient

    with pytest.raises(ModelError, match="weights became non-finite"):
        train(build_model(SECTION), SAMPLES[:1], epochs=1, loss=nan_gradient, checkpoint=tmp_path / "m.pt")
    assert not (tmp_path / "m.pt").exists()


def test_a_path_that_cannot_be_written_is_found_before_the_first_step(tmp_path):
    (tmp_path / "file").touch()

    def never(output, target):
        raise AssertionError("a step was made")

    with pytest.raises(ModelError, match="cannot write"):
        train(build_model(SECTION), SAMPLES, epochs=1, loss=never, checkpoint=tmp_path / "file" / "m.pt")


def test_slices_too_small_for_the_pools_are_one_error():
    deep = build_model(SECTION.model_copy(update={"pools": 5}))
    with pytest.raises(ModelError, match=r"cannot be trained on this data.*fewer pools"):
        train(deep, SAMPLES, epochs=1)


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no training samples"):
        train(build_model(SECTION), [], epochs=1)


def test_joined_sets_keep_their_order_and_tell_their_content():
    joined = Joined([SAMPLES[:1], SAMPLES[2:]])
    assert len(joined) == 3
    assert [joined[index][1]["max"] for index in range(3)] == [SAMPLES[index][1]["max"] for index in (0, 2, 3)]
    assert joined.fingerprint() == Joined([SAMPLES[:1], SAMPLES[2:]]).fingerprint()
    assert joined.fingerprint() != Joined([SAMPLES[:1], SAMPLES[1:]]).fingerprint()
