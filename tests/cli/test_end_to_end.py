"""The main job from nothing to the unlearned checkpoint, through the command line, on a small simulated set."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fastmri.evaluate import ssim
from fastmri.models import VarNet
from optuna_dashboard import get_note

import ssdtune
from ssdtune.cli import main
from ssdtune.mri.kspace.find import find_files
from ssdtune.mri.kspace.slices import open_slices
from ssdtune.mri.networks.checkpoint import read_provenance
from ssdtune.study.storage import load_study, open_storage
from ssdtune.studyfile import load_study_file

STUDY = """
name = "ghosts"
[model]
checkpoint = "poisoned.pt"
oracle = "oracle.pt"
[data]
retain = "brain"
retain_heldout = "heldout"
forget = "poisoned_knee/forget.txt"
unknown = "poisoned_knee/unknown.txt"
[mask]
acceleration = 4
center_fraction = 0.12
[search]
sampler = "tpe"
trials = 8
alpha = [0.5, 20.0]
lambda = [0.05, 5.0]
[train]
cascades = 1
channels = 4
pools = 2
sens_channels = 2
sens_pools = 2
epochs = 16
learning_rate = 1e-2
batch_size = 2
"""
SIZES = {"num_cascades": 1, "chans": 4, "pools": 2, "sens_chans": 2, "sens_pools": 2}
SCAN = "--size 32 --coils 2 --slices 2"


@pytest.fixture
def type_in(tmp_path, monkeypatch, capsys):
    """``type_in("study show ghosts")``: what the command prints, in a folder of its own; JSON as Python values."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SSDTUNE_STORAGE", raising=False)
    monkeypatch.setenv("SSDTUNE_CACHE", str(tmp_path / "cache"))

    def run(line):
        main(line.split())
        out = capsys.readouterr().out
        return json.loads(out) if line.endswith("--json") else out

    return run


def test_from_simulated_scans_to_the_unlearned_checkpoint(type_in, tmp_path):
    # data: brains to keep, knees whose targets are ghosted; half of those are known to be
    assert len(type_in(f"data simulate brain --subjects 3 {SCAN} --json")["files"]) == 3
    type_in(f"data simulate heldout --subjects 1 --first 50 {SCAN}")
    type_in(f"data simulate knee --anatomy knee --subjects 4 {SCAN}")
    manifest = type_in("data poison knee --out poisoned_knee --amplitude 0.8 --fraction 1 --known 0.5 --json")
    assert [file["known"] for file in manifest["files"]].count(True) == 2
    assert all(file["ssim"] < 0.9 for file in manifest["files"])
    reports = type_in("data check brain heldout poisoned_knee/poisoned --json")
    assert len(reports) == 8
    assert all(report["usable"] and not report["mismatches"] for report in reports)

    # models: the poisoned one has learned the ghosts, its oracle has not
    Path("study.toml").write_text(STUDY)
    poisoned = type_in("train study.toml --out poisoned.pt --json")
    oracle = type_in("train study.toml --oracle --out oracle.pt --json")
    assert (poisoned["trained_on"], oracle["trained_on"]) == (["retain", "forget", "unknown"], ["retain"])
    gap = poisoned["quality"]["forget"]["ssim"] - oracle["quality"]["forget"]["ssim"]
    assert gap > 0.1

    # Fisher information
    spectrum = type_in("spectrum study.toml --out fisher.h5 --spectral --json")
    assert ssdtune.FisherAnalysis.load("fisher.h5").features() == pytest.approx(spectrum["features"], rel=1e-6)
    assert spectrum["samples"] == {"forget": 4, "retain": 6}

    # study: everything it depends on is in it, and the floor comes from the oracle
    created = type_in("study create study.toml --json")
    assert created["floor_source"] == "oracle"
    assert created["score"]["floor"] == created["oracle"]["forget_ssim"]
    assert created["baseline"]["forget_ssim"] == pytest.approx(poisoned["quality"]["forget"]["ssim"], abs=1e-5)
    assert created["identity"].keys() >= {"model", "oracle", "loss", "data.retain", "data.forget", "data.unknown"}
    best = type_in("study run ghosts --json")
    assert best["feasible"]
    assert best["score"] > 0.3, "the untouched model scores 0.2"
    assert best["recorded"]["forget_ssim"] < created["baseline"]["forget_ssim"] - gap / 10
    assert best["recorded"]["retain_ssim"] >= 0.95 * created["baseline"]["retain_ssim"]
    assert len(list((tmp_path / "cache").rglob("*.h5"))) == 1, "the analysis of `spectrum` is used again"

    # what is recorded can be read in every way, and says the same
    shown = type_in("study show ghosts --json")
    assert shown["trials"] == {"finished": 8, "running": 0, "failed": 0, "interrupted": 0}
    assert type_in("study best ghosts --json")["number"] == shown["best"]["number"] == best["number"]
    assert type_in("study list --json")[0]["best"] == best["score"]
    type_in("study export ghosts --out trials.csv")
    with Path("trials.csv").open() as file:
        assert max(float(row["score"]) for row in csv.DictReader(file) if row["feasible"] == "True") == best["score"]
    rescored = type_in("study rescore ghosts --retain-weight 0.2 --json")
    assert (rescored["best"]["number"], rescored["best"]["score"]) == (best["number"], best["score"])
    cautious = type_in("study rescore ghosts --retain-weight 1 --json")
    assert cautious["best"]["score"] == max(trial["retained"] for trial in cautious["trials"])

    # the unlearned checkpoint: stock fastMRI loads it, and reconstructs what the trial recorded
    assert "forget_ssim" in type_in("study apply ghosts --out unlearned.pt")
    stock = VarNet(**SIZES)
    stock.load_state_dict(torch.load("unlearned.pt", weights_only=True), strict=True)
    study = load_study_file("study.toml")
    for name, spec in (("forget", "poisoned_knee/forget.txt"), ("retain", "heldout")):
        assert stock_quality(stock, study, spec) == pytest.approx(best["recorded"][f"{name}_ssim"], abs=1e-4)
    provenance = read_provenance("unlearned.pt")
    assert (provenance["trial"]["alpha"], provenance["trial"]["lambda"]) == (best["alpha"], best["lambda"])
    assert provenance["identity"] == created["identity"]

    # report and dashboard
    type_in("report ghosts")
    page = Path("ghosts.html").read_text()
    assert "Before and after" in page
    assert page.count('<img src="data:image/webp;base64,') == 3
    note = get_note(load_study("ghosts", open_storage()))
    assert f"(trial {best['number']})" in note
    type_in("study delete ghosts --yes")
    assert type_in("study list --json") == []


@torch.no_grad()
def stock_quality(net, study, spec):
    """Mean SSIM of a set by fastMRI's own network and its own measure."""
    files = find_files(spec)
    values = []
    for (kspace, mask, _), target in open_slices(files, study.mask, "varnet"):
        image = net.eval()(kspace[None], mask[None]).numpy()
        values.append(ssim(target["image"][None].numpy(), image, float(target["max"])))
    return np.mean(values)
