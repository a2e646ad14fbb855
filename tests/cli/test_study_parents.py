"""``ssdtune study create --parents``: finished trials composed from the command line."""

import json


def test_finished_trials_are_composed_and_applied(small, run, inputs, tmp_path):
    done = run("create", inputs / "study.toml", "--name", "both", "--method", "compose", "--trials", 2, "--json")
    assert done.code == 0, done.err
    parents = json.loads(done.out)["method"]["parents"]
    assert len(parents) == 2 and all(parent["trial"].endswith("of small") for parent in parents)
    assert run("run", "both").code == 0
    shown = run("show", "both")
    assert shown.code == 0 and "compose" in shown.out
    out = tmp_path / "composed.pt"
    done = run("apply", "both", "--trial", 0, "--out", out)
    assert done.code == 0 and out.exists(), done.err


def test_one_line_says_what_parents_cannot_be(small, run, inputs):
    file = inputs / "study.toml"
    for arguments, code, words in (
        (("--method", "ft", "--parents", small), 2, "method 'ft' has no parents"),
        (("--method", "compose", "--parents", "smal"), 4, "did you mean 'small'?"),
        (("--method", "compose", "--parents", f"{small},"), 0, ""),
    ):
        done = run("create", file, "--name", f"made{code}", *arguments)
        assert done.code == code and words in done.err
        assert code == 0 or done.err.count("\n") == 1
