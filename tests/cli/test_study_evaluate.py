"""``ssdtune study evaluate``: measures of a trial's model, kept with it, shown where the trial is shown."""

import json

import pytest

from ssdtune.cli.study_evaluate import load_peer
from ssdtune.errors import ModelError
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.mri.task import load_task
from ssdtune.studyfile import TrainSection


@pytest.fixture
def unseen(study, run, fastmri_file):
    """A finished study with unseen slices."""
    for number in range(2):
        path = study.parent / "unseen" / f"unseen{number}.h5"
        fastmri_file(path, slices=2, coils=2, shape=(32, 32), seed=20 + number, clean=True)
    study.write_text(study.read_text().replace("[data]", '[data]\nunseen = "unseen"'))
    for command in (("create", study), ("run", "small")):
        assert run(*command).code == 0
    return "small"


def test_measures_are_printed_kept_and_in_the_report(unseen, run, tmp_path):
    done = run("evaluate", "small", "--trial", 0)
    assert done.code == 0, done.err
    for words in ("UA ssim", "BTA psnr", "KTA ssim", "MIA, loss attack", "zero-filled", "corrective", "RTE seconds"):
        assert words in done.out
    assert "not measured: ToW" in done.out
    assert "no oracle" in done.out
    printed = json.loads(run("evaluate", "small", "--trial", 0, "--json").out)
    assert printed["trial"] == 0
    rows = {row["name"]: row for row in printed["rows"]}
    baseline = json.loads(run("show", "small", "--json").out)["baseline"]
    for label, name in (("UA ssim", "forget_ssim"), ("BTA psnr", "retain_psnr"), ("KTA ssim", "unseen_ssim")):
        assert rows[label]["values"]["untouched"] == pytest.approx(baseline[name], abs=1e-3)
    assert "unseen" not in printed["sets"]
    assert printed["sets"]["KTA"].startswith("4 (of 2 volumes)")
    exported = tmp_path / "small.json"
    assert run("export", "small", "--out", exported).code == 0
    kept = json.loads(exported.read_text())["evaluated"]["0"]
    assert kept["sets"] == printed["sets"]
    page = tmp_path / "page.html"
    assert run("small", "--no-inputs", "--out", page, group="report").code == 0
    assert "MIA, loss attack" in page.read_text()
    assert "Not measured: ToW" in page.read_text()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--trial", 77), 2, "no finished trial 77"),
        (("--unlearned", "model.pt"), 2, "2 models or more of each kind, got 1 unlearned and 0 oracles"),
        (("--trial", "x"), 2, "--trial"),
        (("--device", "cuda:9"), 2, "cuda:9"),
        (("--unlearned", "a.pt", "--unlearned", "b.pt", "--oracle", "c.pt", "--oracle", "d.pt"), 2, "there is none"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(small, run, options, code, message, tmp_path):
    before = (tmp_path / "studies.db").read_bytes()
    done = run("evaluate", small, *options)
    assert done.code == code
    assert message in done.err
    assert done.err.strip().splitlines()[-1].startswith("error: ")
    assert (tmp_path / "studies.db").read_bytes() == before


def test_models_of_other_sizes_are_refused(study):
    task = load_task(study)
    others = {"larger.pt": 2, "equal.pt": 1}
    for name, cascades in others.items():
        sizes = {"cascades": cascades, "channels": 2, "pools": 2, "sens_channels": 2, "sens_pools": 2}
        save_new_model(study.parent / name, build_model(TrainSection(**sizes, seed=1)), {})
    assert load_peer(study.parent / "equal.pt", task).keys() == task.params.keys()
    with pytest.raises(ModelError, match="another network than the study's model"):
        load_peer(study.parent / "larger.pt", task)


def test_an_unknown_study_is_refused(run, small):
    assert run("evaluate", "none").code == 4
