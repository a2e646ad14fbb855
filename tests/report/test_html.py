"""The page holds every measure and fact, and asks for nothing from outside."""

import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

import ssdtune.report.page as page_module
from ssdtune.errors import DataError
from ssdtune.report.embed import PICTURES, embedded, packed
from ssdtune.report.history import history_figures
from ssdtune.report.html import study_page
from ssdtune.report.page import PLOTLY, Page, Plot, Section, Table, Text, render, write_page
from ssdtune.report.pictures import write_pictures
from ssdtune.report.statement import LOW_FLOOR, changes, fact_rows, finding, judgement, next_commands
from ssdtune.report.summary import summary_of
from ssdtune.report.view import read_view
from ssdtune.study.record import read_trial

CSS = Path(page_module.__file__).parent / "templates" / "page.css"
PLOTLY_SOURCE = CSS.with_name(PLOTLY).read_text()


@pytest.fixture
def view(study):
    return read_view(study)


def without_plotly(html):
    """The page without plotly.js, whose own source names addresses that these figures never load."""
    return html.replace(packed(PLOTLY_SOURCE), "")


def test_every_measure_is_on_the_page(view, image_task, halved, tmp_path):
    html = render(study_page(view, pictures=write_pictures(image_task, halved, tmp_path)))
    for name, values in view.measure_table().items():
        decimals = 2 if name.endswith("psnr") else 4
        assert f"{values['original']:.{decimals}f}</td>" in html
        assert f"{values['best']:.{decimals}f}</td>" in html
    assert finding(view) in unescape(html)
    for _, value in fact_rows(view):
        assert value in unescape(html.replace("<wbr>", ""))
    assert without_plotly(html).count("data:image/webp;base64,") == 2
    assert all(command in html for command in next_commands(view))


def test_every_trial_is_on_the_page(view):
    html = render(study_page(view))
    for item in view.trials:
        assert f"{item.setting['alpha']:.4g}</td>" in html
    assert f"{len(view.trials)} finished trials" in html


def test_the_page_loads_nothing(view):
    html = render(study_page(view))
    own = without_plotly(html)
    assert len(own) < len(html) / 3, "plotly.js is in it, once"
    assert "http://" not in own
    assert "https://" not in own
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", own)
    assert "default-src 'none'" in own


def test_figures_carry_the_trials(view):
    """Read a figure's JSON back from the page."""
    html = render(study_page(view))
    written = re.search(r'id="ssdtune-trajectory-figure">(.*?)</script>', html, re.DOTALL)
    traces = {trace["name"]: trace for trace in json.loads(written.group(1))["data"]}
    assert len(traces["best feasible so far"]["y"]) == len(view.trials)
    assert len(traces["feasible trial"]["x"]) + len(traces["infeasible trial"]["x"]) == len(view.trials)


def test_text_is_escaped():
    page = Page(
        "<kind>", "<script>", "a & b", [Section("<h>", [Text("<t>"), Table(["<x>"], [["<y>"]])])], commands=["<c>"]
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
    html = render(Page("k", "t", "l", [Section("s", plots)]))
    assert html.count(packed(PLOTLY_SOURCE)) == 1 and len(html) < 1e6


def test_many_large_pictures_fit_a_page(tmp_path):
    """In poorer quality; those that fit as they are keep theirs."""
    paths, noise = [tmp_path / f"{place}.png" for place in range(8)], np.random.default_rng(0)
    for path in paths:
        smooth = gaussian_filter(noise.random((500, 900)), 2)
        Picture.fromarray((255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)).save(path)
    few, many = embedded(paths[:1]), embedded(paths)
    assert sum(map(len, many.values())) <= PICTURES < len(paths) * len(few[paths[0]])
    assert len(many[paths[0]]) < len(few[paths[0]])


def test_plotly_is_the_published_bundle():
    """As npm has it; the figures' kinds of traces are all in it."""
    assert hashlib.sha256(PLOTLY_SOURCE.encode()).hexdigest().startswith("79542150855a52c567260e3137095dbe")


def test_a_page_opens_with_its_answer(view, halved, image_task, tmp_path):
    html = unescape(render(study_page(view)))
    head = html[html.index("<header>") : html.index("</header>")]
    for words in (finding(view), *judgement(view), *next_commands(view)):
        assert words in head
    assert any("below the 0.500 of a model that never saw it" in words for words in judgement(view))


def test_what_became_worse_is_said_as_plainly_as_what_became_better(view, monkeypatch):
    names = ("retain_ssim", "forget_ssim", "unknown_ssim", "forget_clean_ssim", "unseen_ssim")
    changed = {name: {"original": 0.9, "best": 0.8, "change": -0.1} for name in names}
    changed["unknown_ssim"]["oracle"] = 0.85
    changed["forget_clean_psnr"] = {"original": 20.0, "best": 22.0, "change": 2.0}
    monkeypatch.setattr(type(view), "measure_table", lambda _: changed)
    better, worse = changes(view)
    assert better == [
        "SSIM of the forget (known) set 0.900 to 0.800 (-11.1%)",
        "PSNR of the forget (known) set against clean targets 20.00 to 22.00 (+2.00 dB)",
    ]
    assert worse == [
        "SSIM of the retain set 0.900 to 0.800 (-11.1%)",
        "SSIM of the forget (unknown) set 0.900 to 0.800 (-11.1%), below the 0.850 of a model that never saw it",
        "SSIM of the forget (known) set against clean targets 0.900 to 0.800 (-11.1%)",
    ]


def test_all_of_the_way_is_said_of_nothing_less(view, monkeypatch):
    oracle = replace(view.untouched, value=0.95)
    far = view.untouched.value + 0.996 * (oracle.value - view.untouched.value)
    monkeypatch.setattr(type(view), "oracle", oracle)
    for score, share in ((far, "99%"), (oracle.value, "100%")):
        best = replace(view.best, score=replace(view.best.score, value=score))
        monkeypatch.setattr(type(view), "best", best)
        assert any(f"That is {share} of the way" in words for words in judgement(replace(view)))


def test_a_floor_of_zero_filled_images_is_no_model_that_never_saw_them(view):
    low = replace(view, record=replace(view.record, floor_source="zero-filled"))
    words = judgement(low)
    assert words[-1] == LOW_FLOOR and LOW_FLOOR not in judgement(view)
    assert any("below the 0.500 of zero-filled images" in each for each in words)
    assert "0 % is the floor" in render(study_page(low)) and "0 % is the floor" not in render(study_page(view))


def test_a_reader_of_screens_finds_its_way(view, image_task, halved, tmp_path):
    html = without_plotly(render(study_page(view, pictures=write_pictures(image_task, halved, tmp_path))))
    assert "<th>" not in html and html.count('<th scope="col"') > 10
    for tag in re.findall(r"<img [^>]*>", html):
        assert re.search(r'alt="[^"]{10,}"', tag)
    for tag in re.findall(r'<div id="[^"]*" class="plot"[^>]*>', html):
        assert re.search(r'aria-label="[^"]{10,}"', tag)
    assert html.count('tabindex="0"') == html.count('<div class="scroll') + html.count("<pre")


def test_words_stand_out_from_their_ground():
    """WCAG 2.1, 1.4.3: at least 4.5 to 1, in both schemes."""
    css = CSS.read_text()
    for scheme in re.findall(r"--paper:.*?;[^}]*", css):
        colour = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for ink in ("ink", "quiet", "accent") if "accent" in colour else ("ink", "quiet"):
            for ground in ("paper", "card"):
                light, dark = sorted((luminance(colour[ink]), luminance(colour[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_page_fits_a_phone_and_a_desk(view, image_task, halved, tmp_path, screen):
    pictures = write_pictures(image_task, halved, tmp_path, narrow=True)
    assert screen(write_page(study_page(view, pictures=pictures), tmp_path / "page.html")) == []


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
