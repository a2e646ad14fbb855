"""`ssdtune attack`: a row for each model and size, pictures, and what is wrong in one line."""

import json


def test_models_side_by_side(small, run, tmp_path):
    out = tmp_path / "attacked"
    words = ("--norm", "l2", "--eps", 0.05, "--steps", 2, "--slices", 2)
    done = run(small, "--out", out, *words, "--json", group="attack")
    assert done.code == 0, done.err
    rows = {(row["model"], row["eps"]): row for row in json.loads(done.out)["attacks"]}
    assert set(rows) == {(model, eps) for model in ("untouched", "unlearned") for eps in (0, 0.05)}
    assert rows["untouched", 0]["change"] == 0 < rows["untouched", 0.05]["change"]
    assert all((out / f"{name}.png").stat().st_size > 5000 for name in ("quality", "slice"))
    again = run(small, "--out", out, group="attack")
    assert again.code == 2 and "is there already" in again.err


def test_size_nought_alone_asks_for_no_other(small, run, tmp_path):
    words = ("--norm", "l2", "--eps", 0, "--slices", 1, "--json")
    done = run(small, "--out", tmp_path / "attacked", *words, group="attack")
    assert done.code == 0, done.err
    assert [row["eps"] for row in json.loads(done.out)["attacks"]] == [0, 0]


def test_what_is_wrong_is_one_line(small, run, tmp_path):
    for words, code, message in (
        (["--eps", 0.05], 2, "--norm"),
        (["--norm", "l3"], 2, "l3"),
        (["--norm", "l2", "--eps", -1], 2, "eps"),
        (["--set", "retained"], 2, "retain"),
        (["--trial", 99], 2, "99"),
    ):
        done = run(small, "--out", tmp_path / "new", *words, group="attack")
        assert done.code == code and message in done.err and done.err.count("\n") == 1, done.err
        assert not (tmp_path / "new").exists()
