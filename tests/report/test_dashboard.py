"""The note, figures and pictures of a study in the real optuna-dashboard, and that attaching again changes nothing."""

import html
import json
import re
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta
from optuna_dashboard import get_note, save_note

from ssdtune.cli.health import listen
from ssdtune.errors import StorageError
from ssdtune.report.artifacts import artifact_place, open_artifacts
from ssdtune.report.dashboard import LAST_LINE, attach, escape, note_text
from ssdtune.report.dashboard_app import make_app
from ssdtune.report.history import history_figures
from ssdtune.report.pictures import write_pictures
from ssdtune.report.statement import fact_rows, finding
from ssdtune.report.view import read_view
from ssdtune.study.record import read_trial


@contextmanager
def served(url):
    """The address of the dashboard of a storage, as ``ssdtune dashboard`` serves it."""
    server = listen(make_app(url), "127.0.0.1", 0, threads=8)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}/"
    finally:
        server.trigger.pull_trigger(server.close)  # in the thread of its own, whose loop ends with it
        thread.join(60)
        server.task_dispatcher.shutdown()


def fetch(address, json_body=True):
    with urllib.request.urlopen(address, timeout=120) as answer:
        content = answer.read()
    return json.loads(content) if json_body else content


def test_the_note_holds_every_fact_and_measure(study):
    view = read_view(study)
    text = note_text(view)
    assert finding(view) in text
    for what, value in fact_rows(view):
        assert f"| {escape(what)} | {escape(value)} |" in text
    best = read_trial(view.best.trial)
    assert f"| forget (known) | ssim | 1.0000 | {best['forget_ssim']:.4f} |" in text
    assert f"ssdtune study apply {view.name} --out unlearned.pt" in text


def test_attaching_again_changes_nothing(stored, image_task, halved, tmp_path):
    study, url = stored
    pictures = write_pictures(image_task, halved, tmp_path / "pictures")
    for _ in range(2):
        attach(study, pictures=pictures, artifacts=open_artifacts(artifact_place(storage=url), create=True))
    assert get_note(study) == note_text(read_view(study))
    names = sorted(meta.filename for meta in get_all_artifact_meta(study))
    assert names == ["before_after_forget.png", "before_after_retain.png"]


def test_a_new_picture_replaces_the_old_one(stored, image_task, halved, tmp_path):
    study, url = stored
    folder = Path(artifact_place(storage=url))
    for gain in (halved, image_task.params):
        pictures = write_pictures(image_task, gain, tmp_path / "pictures")
        attach(study, pictures=pictures, artifacts=open_artifacts(str(folder), create=True))
    for meta in get_all_artifact_meta(study):
        assert (folder / meta.artifact_id).read_bytes() == (tmp_path / "pictures" / meta.filename).read_bytes()
    assert len(list(folder.iterdir())) == 2


def test_what_a_user_wrote_is_kept(stored):
    study, _ = stored
    save_note(study, "my own words")
    attach(study)
    assert get_note(study) == f"{note_text(read_view(study))}\n\nmy own words"
    attach(study)
    assert get_note(study).count(LAST_LINE) == get_note(study).count("my own words") == 1


def test_a_note_follows_the_study(stored):
    study, _ = stored
    attach(study)
    study.add_trial(
        optuna.trial.create_trial(
            params={"alpha": 1.0, "lambda": 1.0},
            distributions=study.trials[0].distributions,
            value=1.0,
            user_attrs=dict(study.best_trial.user_attrs),
        )
    )
    attach(study)
    assert "| trials | 41 finished of 40 |" in get_note(study)
    assert get_note(study).count("## ghosts") == 1


def test_the_server_serves_note_figures_and_pictures(stored, image_task, halved, tmp_path):
    study, url = stored
    pictures = write_pictures(image_task, halved, tmp_path / "pictures")
    for _ in range(2):
        attach(study, pictures=pictures, artifacts=open_artifacts(artifact_place(storage=url), create=True))
    view = read_view(study)
    with served(url) as address:
        assert [item["study_name"] for item in fetch(f"{address}api/studies")["study_summaries"]] == ["ghosts"]
        shown = fetch(f"{address}api/studies/1")
        for artifact in shown["artifacts"]:
            content = fetch(f"{address}artifacts/1/{artifact['artifact_id']}", json_body=False)
            assert content == (tmp_path / "pictures" / artifact["filename"]).read_bytes()
    assert len(shown["artifacts"]) == 2
    assert [trial["number"] for trial in shown["best_trials"]] == [study.best_trial.number]
    assert [trial["constraints"] for trial in shown["trials"]] == [
        [*trial.constraints.values()] for trial in study.trials
    ]
    lengths = [len(json.dumps(attribute["value"])) for attribute in shown["user_attrs"]]
    assert lengths[0] < 20 and sorted(lengths) == lengths and max(lengths) < 2000, "readable ones come first"
    assert shown["note"] == {"body": note_text(view), "version": 1}, "an unchanged note is not written again"
    assert sorted(item["id"] for item in shown["plotly_graph_objects"]) == sorted(history_figures(view))
    figures = {item["id"]: json.loads(item["graph_object"]) for item in shown["plotly_graph_objects"]}
    (line,) = [trace for trace in figures["ssdtune-trajectory"]["data"] if trace["name"] == "best feasible so far"]
    assert line["y"] == list(history_figures(view)["ssdtune-trajectory"].data[-1].y)


def test_a_browser_draws_note_and_figures(stored, browser):
    study, url = stored
    attach(study)
    view = read_view(study)
    with served(url) as address:
        note, _ = browser(f"{address}dashboard/studies/1/note")
        page, _ = browser(f"{address}dashboard/studies/1")
    assert finding(view) in html.unescape(note)
    assert "<td>feasible</td>" in note, "Markdown tables are drawn as tables"
    for name, figure in history_figures(view).items():
        place = page.index(f'id="user-defined-plot:{name}"')
        assert "main-svg" in page[place : place + 2000], f"{name} is drawn"
        assert figure.layout.title.text in page


def test_an_artifact_folder_that_cannot_be_made_is_one_error(stored, image_task, halved, tmp_path):
    study, _ = stored
    pictures = write_pictures(image_task, halved, tmp_path / "pictures")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write an artifact"):
        attach(study, pictures=pictures, artifacts=open_artifacts(str(tmp_path / "file" / "artifacts"), create=True))


def test_a_foreign_study_is_refused():
    with pytest.raises(StorageError, match="not a study made by ssdtune"):
        attach(optuna.create_study(study_name="other"))


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "![x](http://evil.example/p.png)",
        "[click](javascript:alert(1))",
        "a | b",
        "# title",
        "`code`",
        "<script>alert(1)</script>",
        "http://evil.example",
        "two\n\n## lines",
    ],
)
def test_whatever_a_file_or_patient_is_called_stays_text_in_a_note(name):
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark", {"linkify": False}).enable("table").render(f"| a |\n| - |\n| {escape(name)} |")
    inside = shown.partition("<tbody>")[2].partition("</tbody>")[0]
    assert html.unescape(inside).split("<td>")[1].split("</td>")[0] == " ".join(name.split())
    tags = set(re.findall(r"<(\w+)", inside))
    assert tags <= {"tr", "td"}
