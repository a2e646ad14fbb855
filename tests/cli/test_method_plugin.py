"""A method of another package, that of docs/methods.md: every command serves it without knowing it."""

import json
import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2].joinpath("docs", "methods.md").read_text()
(METHOD,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "class Scale" in block)
(ENTRY_POINT,) = re.findall(r"^scale = .*", PAGE, re.MULTILINE)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package ``scaling`` as pip would have installed it."""
    site = tmp_path / "site"
    info = site / "scaling-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "scaling.py").write_text(METHOD)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scaling\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ssdtune.methods]\n" + ENTRY_POINT.replace('"', "") + "\n")
    monkeypatch.syspath_prepend(str(site))


def test_a_throwaway_method_goes_through_every_command(installed, study, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "scale" in run("methods").out
    done = run("create", study, "--method", "scale", "--trials", 5, "--json")
    assert done.code == 0, done.err
    created = json.loads(done.out)
    assert created["method"] == {"name": "scale", "seed": 0, "c": [0.5, 1.0]}
    assert [knob["name"] for knob in created["knobs"]] == ["c", "e"]
    assert run("run", "small", "--trials", 3).code == 0
    done = run("run", "small")  # resumed
    assert done.code == 0, done.err
    (last,) = [line for line in done.err.splitlines() if "(5/5)" in line]
    assert "  c 0." in last and "  e " in last
    assert "alpha" not in done.out + done.err
    shown = run("show", "small")
    assert "scale" in shown.out and "alpha" not in shown.out
    best = json.loads(run("best", "small", "--json").out)
    assert 0.5 <= best["c"] <= 1 and best["recorded"]["change"] == pytest.approx(1 - best["c"])
    assert json.loads(run("list", "--json").out)[0]["method"] == "scale"
    done = run("small", "--out", tmp_path / "page.html", group="report")
    assert done.code == 0, done.err
    page = re.sub("<script.*?</script>", "", (tmp_path / "page.html").read_text(), flags=re.DOTALL)
    assert "scale" in page and "alpha" not in page
    number = best["number"]
    done = run("apply", "small", "--trial", number, "--out", tmp_path / "unlearned.pt", "--json")
    assert done.code == 0, done.err
    first = torch.load(tmp_path / "unlearned.pt", weights_only=True)
    assert run("apply", "small", "--trial", number, "--out", tmp_path / "again.pt").code == 0
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    tensors = [key for key, value in first.items() if isinstance(value, torch.Tensor)]
    assert tensors and all(torch.equal(first[key], again[key]) for key in tensors)
    done = run("compete", study, "--method", "scale", "--samplers", "tpe,random", "--seeds", 1, "--trials", 3, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert set(document["studies"]) == {"tpe", "random"}
    assert "c" in document["best"] or document["best"] is None
    assert "c" in (tmp_path / document["page"]).read_text()


def test_a_method_that_cannot_serve_the_task_says_so(installed, study, run, monkeypatch, tmp_path):
    import scaling

    monkeypatch.setattr(scaling.Scale, "needs", lambda self, task, options: "a crystal ball")
    done = run("create", study, "--method", "scale")
    assert done.code == 2
    assert done.err == "error: method 'scale' lacks a crystal ball, small, choose another\n"
    assert run("list").code == 4  # nothing was made


def test_a_method_that_is_gone_can_still_be_read(installed, study, run, monkeypatch, tmp_path):
    assert run("create", study, "--method", "scale", "--trials", 2).code == 0
    assert run("run", "small").code == 0
    monkeypatch.undo()
    monkeypatch.setenv("SSDTUNE_STORAGE", f"sqlite:///{tmp_path}/studies.db")
    for command in (["list"], ["show", "small"], ["best", "small"], ["rescore", "small", "--retain-weight", "0.4"]):
        assert run(*command).code == 0
    done = run("run", "small", "--trials", 3)
    assert done.code == 2
    assert "no method 'scale'" in done.err


def test_an_unknown_method_names_the_nearest(study, run, tmp_path):
    done = run("create", study, "--method", "sdd")
    assert (done.code, done.err) == (2, "error: no method 'sdd', --method, did you mean 'ssd'?\n")
    assert not (tmp_path / "studies.db").exists()
