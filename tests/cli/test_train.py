"""``ssdtune train`` on small files: model and oracle, resuming, and one line for what is wrong."""

import json

import pytest
import torch
from fastmri.models import Unet, VarNet

from ssdtune.cli import main
from ssdtune.mri.networks.checkpoint import read_provenance

STUDY = """
name = "small"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
retain_heldout = "heldout"
forget = "forget"
unknown = "unknown"
[train]
cascades = 1
channels = 2
pools = 2
sens_channels = 2
sens_pools = 2
epochs = 1
learning_rate = 1e-2
batch_size = 2
"""


@pytest.fixture
def study(tmp_path, fastmri_file):
    for seed, name in enumerate(("retain", "heldout", "forget", "unknown")):
        poisoned = name in ("forget", "unknown")
        fastmri_file(tmp_path / name / f"{name}.h5", slices=2, coils=2, shape=(32, 32), seed=seed, clean=poisoned)
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of ``ssdtune train ...``."""
    code = 0
    try:
        main(["train", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_model_and_oracle_are_trained_on_their_sets(study, tmp_path, capsys):
    code, out, err = run(capsys, study, "--out", tmp_path / "model.pt", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["trained_on"] == ["retain", "forget", "unknown"]
    assert list(result["quality"]) == ["retain", "forget", "retain_heldout", "unknown"]
    assert 0 < result["quality"]["retain"]["ssim"] < 1
    assert "clean_ssim" in result["quality"]["forget"]
    assert result["final_loss"] == result["losses"][-1]

    code, out, _ = run(capsys, study, "--oracle", "--out", tmp_path / "oracle.pt", "--epochs", 2)
    assert code == 0
    assert "2 epochs on retain, final loss" in out
    assert "retain_heldout" in out
    model, oracle = (torch.load(tmp_path / name) for name in ("model.pt", "oracle.pt"))
    assert not all(torch.equal(model[name], oracle[name]) for name in model)
    VarNet(num_cascades=1, sens_chans=2, sens_pools=2, chans=2, pools=2).load_state_dict(model, strict=True)
    provenance = read_provenance(tmp_path / "oracle.pt")
    assert provenance["oracle"] is True
    assert list(provenance["data"]) == ["retain"]
    assert provenance["training"]["epochs"] == 2


def test_a_scan_is_not_written_over(study, tmp_path, capsys):
    before = (tmp_path / "retain/retain.h5").read_bytes()
    code, _, err = run(capsys, study, "--out", tmp_path / "retain/retain.h5", "--overwrite")
    assert code == 2 and "is read here, --out, name another file" in err and err.count("\n") == 1
    assert (tmp_path / "retain/retain.h5").read_bytes() == before


def test_the_heldout_set_validates_and_the_loss_is_recorded(study, tmp_path, capsys):
    code, out, _ = run(capsys, study, "--out", tmp_path / "m.pt", "--epochs", 2)
    assert code == 0
    assert "on retain_heldout (ssim)" in out
    assert "masks: equispaced_fraction 4x (centre 8 %), " in out
    training = read_provenance(tmp_path / "m.pt")["training"]
    assert training["loss"] == "ssim"
    assert len(training["validation"]) == 2


def test_fastmris_commands_leave_the_forget_list_out_for_an_oracle(study, tmp_path, capsys):
    texts = []
    for extra in ([], ["--oracle"]):
        code, out, err = run(capsys, study, "--fastmri", "--out", tmp_path / "folder", *extra)
        assert code == 0, err
        texts.append(out)
    assert not (tmp_path / "folder").exists()
    model, oracle = texts
    assert all(f"{name}.h5" in model for name in ("retain", "heldout", "forget", "unknown"))
    assert not any(f"{name}.h5" in oracle for name in ("forget", "unknown"))
    assert "train_varnet_demo.py" in oracle


def test_unet(study, tmp_path, capsys):
    study.write_text(STUDY.replace("[train]", '[train]\narchitecture = "unet"'))
    code, _, err = run(capsys, study, "--out", tmp_path / "unet.pt")
    assert code == 0, err
    Unet(1, 1, chans=2, num_pool_layers=2).load_state_dict(torch.load(tmp_path / "unet.pt"), strict=True)


def test_stopped_training_says_how_to_go_on_and_does(study, tmp_path, capsys, monkeypatch):
    def stopping(items, description, total):
        for count, item in enumerate(items):
            if description == "training" and count == 4:
                raise KeyboardInterrupt
            yield item

    arguments = (study, "--epochs", 2, "--out", tmp_path / "model.pt")
    with monkeypatch.context() as patch:
        patch.setattr("ssdtune.cli.train.track", stopping)
        code, _, err = run(capsys, *arguments)
    assert code == 130
    assert "model.pt.resume" in err
    assert torch.load(tmp_path / "model.pt.resume")["epoch"] == 1
    assert run(capsys, *arguments)[0] == 0
    assert run(capsys, study, "--epochs", 2, "--out", tmp_path / "whole.pt")[0] == 0
    stopped, whole = (torch.load(tmp_path / name) for name in ("model.pt", "whole.pt"))
    assert list(stopped) == list(whole)
    for name, value in whole.items():  # to what a CPU's rounding grows to in these few steps
        torch.testing.assert_close(stopped[name], value, rtol=1e-3, atol=1e-4)
    assert not list(tmp_path.glob("*.resume"))


@pytest.mark.parametrize(
    ("change", "arguments", "code", "words"),
    [
        (("", ""), ["--device", "cuda:99"], 2, "no such cuda device"),
        (("", ""), ["--epochs", "0"], 2, "--epochs"),
        (("cascades", "cascade"), [], 2, "did you mean 'cascades'"),
        (('checkpoint = "model.pt"', 'checkpoint = "m.pt"\narchitecture = "unet"'), [], 2, "make them the same"),
        (('forget = "forget"', 'forget = "absent"'), [], 3, "absent"),
        (('forget = "forget"', 'forget = "retain"'), [], 3, "share 2 slices"),
        (("learning_rate = 1e-2", "learning_rate = 1e30"), [], 3, "learning_rate"),
    ],
)
def test_what_is_wrong_is_one_line(study, tmp_path, capsys, change, arguments, code, words):
    study.write_text(STUDY.replace(*change))
    found, _, err = run(capsys, study, "--out", tmp_path / "model.pt", *arguments)
    assert found == code
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "model.pt").exists()


def test_an_existing_checkpoint_is_kept(study, tmp_path, capsys):
    (tmp_path / "model.pt").write_text("mine")
    code, _, err = run(capsys, study, "--out", tmp_path / "model.pt")
    assert (code, err.count("\n")) == (2, 1)
    assert "--overwrite" in err
    assert (tmp_path / "model.pt").read_text() == "mine"
    assert run(capsys, study, "--out", tmp_path / "model.pt", "--overwrite")[0] == 0
