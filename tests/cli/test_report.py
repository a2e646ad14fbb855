"""``ssdtune report``: the page of a real study, with and without its inputs."""

import json
import shutil
from wsgiref.util import setup_testing_defaults

import pytest
from optuna_dashboard import get_note, wsgi

from ssdtune.cli import main
from ssdtune.mri.networks.models import build_model, save_new_model
from ssdtune.study.storage import load_study, open_storage
from ssdtune.studyfile import TrainSection

FISHER = ("spectrum-eigenvalues", "spectrum-ratios", "spectrum-depth", "spectrum-damage")
SIZES = {"cascades": 1, "channels": 2, "pools": 2, "sens_channels": 2, "sens_pools": 2}
STUDY = """
name = "ghosts"
[model]
checkpoint = "model.pt"
[data]
retain = "retain"
forget = "forget"
[score]
floor = 0.01
min_retained = 0.5
[method]
name = "ssd"
[search]
sampler = "random"
trials = 3
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory, fastmri_file):
    """A folder with the study ``ghosts``, run to its end, and all it needs."""
    folder = tmp_path_factory.mktemp("report")
    for seed, name in enumerate(("retain", "forget")):
        fastmri_file(folder / name / f"{name}.h5", slices=2, coils=2, shape=(32, 32), seed=seed, clean=seed > 0)
    save_new_model(folder / "model.pt", build_model(TrainSection(**SIZES)), {})
    (folder / "study.toml").write_text(STUDY)
    for arguments in (["create", str(folder / "study.toml")], ["run", "ghosts"]):
        main(["study", *arguments, "--storage", f"sqlite:///{folder}/studies.db"])
    return folder


@pytest.fixture
def storage(finished, tmp_path):
    shutil.copy(finished / "studies.db", tmp_path / "studies.db")
    return f"sqlite:///{tmp_path}/studies.db"


def test_the_page_has_measures_pictures_and_figures(storage, tmp_path, capsys):
    main(["report", "ghosts", "--storage", storage, "--out", str(tmp_path / "page.html")])
    assert f"report: {tmp_path / 'page.html'}" in capsys.readouterr().out
    html = (tmp_path / "page.html").read_text()
    for words in ("Before and after", "Reconstructions", "The search", "clean ssim", "ssdtune study apply ghosts"):
        assert words in html
    for figure in ("ssdtune-trajectory", "ssdtune-plane", "ssdtune-settings", *FISHER):
        assert f'<div id="{figure}"' in html
    assert html.count('<img src="data:image/webp;base64,') == 2
    assert len(list((tmp_path / "studies_artifacts").iterdir())) == 2
    study = load_study("ghosts", open_storage(storage))
    assert "ssdtune study apply ghosts" in get_note(study)


def test_a_study_that_has_run_shows_all_figures_in_the_dashboard(storage):
    environment = {"PATH_INFO": "/api/studies/1"}
    setup_testing_defaults(environment)
    answer = b"".join(wsgi(open_storage(storage))(environment, lambda *response: None))
    assert {item["id"] for item in json.loads(answer)["plotly_graph_objects"]} >= {*FISHER, "ssdtune-trajectory"}


def test_json_is_the_summary(storage, tmp_path, capsys):
    page = tmp_path / "page.html"
    main(["report", "ghosts", "--storage", storage, "--no-inputs", "--out", str(page), "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert summary["study"] == "ghosts"
    assert summary["trials"]["finished"] == 3
    assert summary["files"] == {"report": str(page)}
    assert '<img src="data' not in page.read_text()


def test_without_the_data_the_page_says_why_it_has_no_pictures(finished, storage, tmp_path, capsys, monkeypatch):
    moved = finished / "moved"
    (finished / "forget").rename(moved)
    try:
        main(["report", "ghosts", "--storage", storage, "--out", str(tmp_path / "page.html")])
    finally:
        moved.rename(finished / "forget")
    assert "No pictures and no Fisher figures: forget set" in capsys.readouterr().err
    assert "No pictures and no Fisher figures: forget set" in (tmp_path / "page.html").read_text()


def test_the_page_goes_where_one_stands_by_default(storage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["report", "ghosts", "--storage", storage, "--no-inputs"])
    assert (tmp_path / "ghosts.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ghost"], 4, "did you mean 'ghosts'?"),
        (["ghosts", "--out", "file/page.html"], 3, "cannot write"),
        ([], 2, "Missing argument 'NAME'"),
    ],
)
def test_what_is_wrong_is_one_line(storage, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments, "--storage", storage, "--no-inputs"])
    err = capsys.readouterr().err
    assert stop.value.code == code
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))
