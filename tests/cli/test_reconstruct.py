"""Images in fastMRI's submission layout: its own evaluation of them gives what the study recorded."""

import json

import fastmri.evaluate
import h5py
import numpy as np
import pytest


def test_a_studys_images_score_what_the_study_says(small, run, inputs, tmp_path):
    out = tmp_path / "images"
    done = run(small, "--out", out, "--json", group="reconstruct")
    assert done.code == 0, done.err
    rows = {(row["model"], row["set"]): row for row in json.loads(done.out)}
    assert set(rows) == {
        (model, name) for model in ("untouched", "unlearned") for name in ("retain", "forget", "unknown")
    }
    best = json.loads(run("best", small, "--json").out)
    for model, means in (("untouched", best["baseline"]), ("unlearned", best["recorded"])):
        with (
            h5py.File(inputs / "retain" / "retain.h5") as target,
            h5py.File(out / model / "retain" / "retain.h5") as found,
        ):
            gt, pred = target["reconstruction_rss"][()], found["reconstruction"][()]
            top = float(target.attrs["max"])
        assert pred.dtype == np.float32 and pred.shape == gt.shape
        assert float(fastmri.evaluate.ssim(gt, pred, top)[0]) == pytest.approx(means["retain_volume_ssim"], abs=1e-4)
        assert float(fastmri.evaluate.nmse(gt, pred)) == pytest.approx(means["retain_volume_nmse"], rel=1e-3)
        assert float(fastmri.evaluate.psnr(gt, pred, top)) == pytest.approx(means["retain_volume_psnr"], rel=1e-4)
    again = run(small, "--out", out, group="reconstruct")
    assert again.code == 2 and "is there already" in again.err


def test_a_checkpoint_needs_data_and_gives_the_same(study, run, tmp_path):
    checkpoint = study.parent / "model.pt"
    done = run(checkpoint, "--out", tmp_path / "images", group="reconstruct")
    assert done.code == 2 and "--data" in done.err
    done = run(checkpoint, "--out", tmp_path / "images", "--data", study, group="reconstruct")
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "images" / "model" / "forget" / "forget.h5") as file:
        assert file["reconstruction"].shape == (3, 32, 32)
    assert [path.name for path in (tmp_path / "images" / "model" / "forget").iterdir()] == ["forget.h5"]
