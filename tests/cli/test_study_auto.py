"""One study over several methods, from the command line."""

import json

import torch

from ssdtune.study.storage import load_study, open_storage


def test_auto_is_created_run_resumed_shown_and_applied(inputs, run, tmp_path):
    file, storage = inputs / "study.toml", f"sqlite:///{tmp_path}/studies.db"
    dry = run("create", file, "--method", "auto", "--dry-run", "--json")
    assert dry.code == 0 and json.loads(dry.out)["analysis_minutes"] > 0, dry.err
    done = run("create", file, "--name", "any", "--method", "auto", "--trials", 6, "--json")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    names = record["method"]["methods"]
    assert {knob["name"].partition(".")[0] for knob in record["knobs"]} == set(names) == {*names, "ng", "ft"}
    for trials in (3, 6):
        done = run("run", "any", "--trials", trials)
        assert done.code == 0, done.err
    tried = [trial.params for trial in load_study("any", open_storage(storage)).trials]
    assert len(tried) == 6 and all(len({knob.partition(".")[0] for knob in setting}) == 1 for setting in tried)
    assert "auto" in run("show", "any").out
    out = tmp_path / "unlearned.pt"
    done = run("apply", "any", "--trial", 0, "--out", out)
    assert done.code == 0, done.err
    assert torch.load(out, weights_only=True)
    assert run("any", "--no-inputs", "--out", tmp_path / "page.html", group="report").code == 0


def test_a_budget_of_cost_from_the_study_file(study, run, tmp_path):
    section = '[method]\nname = "auto"\nmethods = ["ft", "ng"]\ncost = 400\n'
    lines = study.read_text().replace("[search]", f"{section}[search]").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith(("alpha", "lambda")))
    for methods, words in (('["ft"]', "two or more other methods"), ('["ft", "nng"]', "did you mean 'ng'")):
        study.write_text(text.replace('["ft", "ng"]', methods))
        done = run("create", study)
        assert done.code == 2 and words in done.err and done.err.count("\n") == 1
    study.write_text(text)
    assert run("create", study, "--trials", 50).code == 0
    done = run("run", "small")
    assert done.code == 0, done.err
    trials = load_study("small", open_storage(f"sqlite:///{tmp_path}/studies.db")).trials
    assert 1 < len(trials) < 50
