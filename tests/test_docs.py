"""The documentation site builds from the repository."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # strict: a warning or a dead link fails
    return out


def test_every_page_is_reached_and_none_fetches_from_elsewhere(site):
    pages = {page.relative_to(site).parts[0] for page in site.rglob("index.html")}
    assert {"index.html", "reference", "benchmarks", "changelog", "contributing", "methods", "half_hour"} <= pages
    for page in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"(https?:[^\"]+)", page.read_text())
        assert not fetched, page


def test_the_reference_comes_from_the_code(site):
    commands = (site / "reference" / "cli" / "index.html").read_text()
    assert "study create" in commands and "--sampler" in commands and "Sentinel" not in commands
    assert "<code>ssdtune study run mine --trials 50</code>" in commands
    for name in ("data-check", "data-average", "data-convert", "study-move", "storage-serve"):
        assert f'id="ssdtune-{name}"' in commands
    python = (site / "reference" / "python" / "index.html").read_text()
    assert "ssdtune.tune" in python and "SpectrumSampler" in python
    outputs = (site / "reference" / "outputs" / "index.html").read_text()
    assert "ssdtune study run --json" in outputs and "retained_interval" in outputs


def test_each_method_has_a_page_with_its_knobs_and_what_was_measured(site):
    methods = runpy.run_path(str(ROOT / "ssdtune" / "unlearning" / "methods.py"))["METHODS"]  # without tests' own
    pages = {path.parent.name: path.read_text() for path in site.glob("methods/*/index.html")}
    shown = " ".join(pages.values())
    assert len(pages) >= 15 and all(name in shown for name in methods)
    assert "0.1 … 300" in pages["ssd"] and re.search(r"0\.\d+ \[0\.\d+, 0\.\d+\]", pages["ssd"])
    assert "In no published benchmark yet" not in shown, "every method has a figure, by `benchmarks.methods` at least"
    goals = (site / "goals" / "index.html").read_text()
    assert "Goal w = 0.2, min_retained 0.98" in goals and "<td>ssd</td>" in goals
