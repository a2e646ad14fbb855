"""The page holds every measure and fact, and asks for nothing from outside."""

import json
import re
from dataclasses import replace
from html import unescape

import pytest
from plotly.offline import get_plotlyjs

from ssdtune.errors import DataError
from ssdtune.report.history import history_figures
from ssdtune.report.html import study_page
from ssdtune.report.page import Command, Page, Plot, Section, Table, Text, render, write_page
from ssdtune.report.pictures import write_pictures
from ssdtune.report.statement import fact_rows, finding, next_commands
from ssdtune.report.summary import summary_of
from ssdtune.report.view import read_view
from ssdtune.study.record import read_trial


@pytest.fixture
def view(study):
    return read_view(study)


def without_plotly(html):
    """The page without plotly.js, whose own source names addresses that these figures never load."""
    return re.sub(r"<script>/\*\*.*?</script>", "", html, count=1, flags=re.DOTALL)


def test_every_measure_is_on_the_page(view, image_task, halved, tmp_path):
    html = render(study_page(view, pictures=write_pictures(image_task, halved, tmp_path)))
    for name, values in view.measure_table().items():
        decimals = 2 if name.endswith("psnr") else 4
        assert f"{values['original']:.{decimals}f}</td>" in html
        assert f"{values['best']:.{decimals}f}</td>" in html
    assert finding(view) in unescape(html)
    for _, value in fact_rows(view):
        assert value in unescape(html)
    assert without_plotly(html).count("data:image/png;base64,") == 2
    assert all(command in html for command in next_commands(view))


def test_every_trial_is_on_the_page(view):
    html = render(study_page(view))
    for item in view.trials:
        assert f"{item.setting['alpha']:.4g}</td>" in html
    assert f"{len(view.trials)} finished trials" in html


def test_the_page_loads_nothing(view):
    html = render(study_page(view))
    own = without_plotly(html)
    assert len(own) < len(html) / 10, "plotly.js is inlined, once"
    assert "http://" not in own
    assert "https://" not in own
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", own)
    assert "default-src 'none'" in own


def test_figures_carry_the_trials(view):
    """Read a figure's JSON back from the page."""
    html = render(study_page(view))
    call = re.search(r'Plotly\.newPlot\(\s*"ssdtune-trajectory",\s*(\[.*?\]),\s*\{"', html, re.DOTALL)
    traces = {trace["name"]: trace for trace in json.loads(call.group(1))}
    assert len(traces["best feasible so far"]["y"]) == len(view.trials)
    assert len(traces["feasible trial"]["x"]) + len(traces["infeasible trial"]["x"]) == len(view.trials)


def test_a_browser_draws_every_figure_and_has_nothing_to_complain_of(view, browser, tmp_path):
    page = write_page(study_page(view), tmp_path / "page.html")
    document, console = browser(page.as_uri())
    for name, figure in history_figures(view).items():
        place = document.index(f'<div id="{name}"')
        assert "main-svg" in document[place : place + 2000]
        assert figure.layout.title.text in document[place:]
    assert console == []


def test_text_is_escaped():
    page = Page(
        "<kind>", "<script>", "a & b", [Section("<h>", [Text("<t>"), Command("<c>"), Table(["<x>"], [["<y>"]])])]
    )
    html = render(page)
    for word in ("<kind>", "<script>", "<h>", "<t>", "<c>", "<x>", "<y>"):
        assert word not in html.split("</title>")[1]
    assert "a &amp; b" in html


def test_numbers_are_right_aligned():
    table = Table(["name", "value", "text"], [["a", 1.5, "x"], ["b", 2, "y"]], numeric=[2])
    assert table.right == {1, 2}
    assert table.cells == [["a", "1.5", "x"], ["b", "2", "y"]]


def test_pages_without_figures_carry_no_plotly():
    assert len(render(Page("k", "t", "l", [Section("s", [Text("text")])]))) < 10_000


def test_a_page_with_plots_carries_plotly_once(view):
    plots = [Plot(name, figure) for name, figure in history_figures(view).items()]
    assert len(render(Page("k", "t", "l", [Section("s", plots)]))) < 1.1 * len(get_plotlyjs())


def test_unwritable_page_leaves_nothing(view, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write"):
        write_page(study_page(view), tmp_path / "file" / "page.html")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".db"] == ["file"]


def test_the_finding_names_setting_score_and_level(view):
    text = finding(view)
    assert view.best.setting_in_words() in text
    assert f"score {view.best.score.value:.3f}" in text
    assert "untouched model scores 0.200" in text


def test_a_study_without_feasible_trial_says_so(view):
    kept = [item for item in view.trials if not item.score.feasible]
    poor = replace(view, trials=kept)
    assert "No trial yet keeps the 95% of retain quality" in finding(poor)
    assert next_commands(poor)[0].startswith("ssdtune study run ghosts")
    assert "study apply" not in render(study_page(poor))
    empty = replace(view, trials=[])
    assert finding(empty) in render(study_page(empty))


def test_summary_is_the_study_in_plain_json(view, tmp_path):
    summary = summary_of(view, {"checkpoint": tmp_path / "unlearned.pt"})
    assert summary == json.loads(json.dumps(summary, allow_nan=False))
    best = view.best
    assert summary["best"] | {"trial": best.number, "setting": best.setting, **best.setting} == summary["best"]
    assert 0 < summary["best"]["kappa"] <= 1
    assert summary["method"]["exponent"] == 1
    assert summary["best"]["score"] == best.score.value
    assert summary["score"]["floor"] == 0.5
    assert summary["measures"]["original"]["forget_ssim"] == view.record.baseline["forget_ssim"]
    assert summary["measures"]["best"]["forget_ssim"] == read_trial(best.trial)["forget_ssim"]
    assert summary["samples"] == {"fisher.retain": 5, "fisher.forget": 3, "retain": 5, "forget": 3}
    assert summary["files"]["checkpoint"].endswith("unlearned.pt")


def test_summary_of_a_broken_trial_has_null_not_nan(view):
    record = replace(view.record, baseline={**view.record.baseline, "retain_psnr": None})
    broken = replace(view, record=record, trials=[])
    summary = summary_of(broken)
    assert summary["best"] is None
    assert summary["measures"]["original"]["retain_psnr"] is None
    assert summary["measures"]["best"] == summary["measures"]["oracle"] == {}
    assert "not finite" in render(study_page(broken))
