"""Each kind of run of a script has a section of its own in the results, and replaces it alone."""

import os
import re
import subprocess
import sys
from functools import partial

import pytest

from benchmarks import harness
from ssdtune.errors import DataError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(*arguments, value=1, program=...)``: the results after a published run of a script."""
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(harness, "RESULTS", results)

    def call(*arguments, value=1, program="benchmarks/speed.py", commit="1234567"):
        monkeypatch.setattr(sys, "argv", [program, "--publish", *arguments])
        monkeypatch.setattr(harness, "machine", lambda device: "a machine")
        monkeypatch.setattr(harness, "commit", lambda: commit)
        harness.main("Speed.", lambda options: {"times": value}, lambda p: p.add_argument("--only", nargs="+"))
        return results.read_text()

    return call


def test_a_run_replaces_its_own_section_alone(run):
    run(value=1)
    run("--only", "diagonal", "memory", value=2)
    run("--device", "cuda:1", value=3)
    text = run(value=4)
    for name in ("speed", "speed_diagonal_memory", "speed_cuda_1"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1
    assert "`python -m benchmarks.speed --only diagonal memory`" in text
    assert "`python -m benchmarks.speed --device cuda:1`" in text
    assert [value for value in "1234" if f"| times  | {value}     |" in text] == ["2", "3", "4"]


def test_a_folder_of_parts_goes_by_its_own_name(run):
    run(value=1)
    text = run(value=2, program="benchmarks/speed/__main__.py")
    assert text.count("<!-- speed -->") == 1
    assert "| times  | 2     |" in text


def test_a_tree_with_changes_is_not_published(run):
    before = run(value=1)
    with pytest.raises(SystemExit, match="commit them first"):
        run(value=2, commit="1234567-dirty")
    assert run(value=1) == before


def test_bad_input_is_one_line(monkeypatch):
    def measure(options):
        raise DataError("cannot read it", "here.h5", "name another")

    monkeypatch.setattr(sys, "argv", ["benchmarks/speed.py"])
    with pytest.raises(SystemExit, match=r"^error: cannot read it, here\.h5, name another$"):
        harness.main("Speed.", measure)


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5", ""])
def test_workers_are_a_number(kept, capsys, workers):
    with pytest.raises(SystemExit):
        kept("abc", "--workers", workers)
    assert "is not a whole number of at least 1" in capsys.readouterr().err


@pytest.fixture
def kept(tmp_path, monkeypatch, run):
    """``kept(code, *arguments)``: what a published run of a script that keeps its results says of their code."""

    def call(code, *arguments, adds="result"):
        monkeypatch.setattr(harness, "code_hash", lambda name, sources: code)
        monkeypatch.setattr(
            sys, "argv", ["benchmarks/speed.py", "--publish", "--work", str(tmp_path / "w"), *arguments]
        )
        extend = partial(harness.add_resumable, work=tmp_path / "other")

        def measure(options):
            if not options.summary and adds:
                (options.work / f"{adds}{code}.json").write_text("{}")
            return {"times": 1}

        harness.main("Speed.", measure, extend)
        return re.search(r"<!-- speed.*? code (\w+), ", harness.RESULTS.read_text(), re.DOTALL)[1]

    run()
    return call


def test_results_that_are_kept_are_of_the_code_that_measured_them(kept, tmp_path):
    assert kept("abc") == "abc"
    assert kept("abc", "--dry-run", adds="") == kept("abc", "--summary") == "abc"  # neither takes a note back
    assert kept("def", "--summary") == "abc"  # shown later, by other code
    assert harness.READ in harness.RESULTS.read_text()
    assert kept("def", "--quick") == "def"  # which are others
    assert kept("def", adds="") == "abc"  # read again without a word
    assert kept("def") == "several"
    assert harness.SOME in harness.RESULTS.read_text()
    assert harness.commits_of(tmp_path / "w") == "1234567"


def test_results_from_before_are_of_no_known_code(kept, tmp_path):
    (tmp_path / "w").mkdir()
    assert kept("abc", "--summary") == "unknown"
    assert harness.UNNOTED not in harness.RESULTS.read_text()
    for name, days in (("a.json", "on 1970-01-02"), ("b.json", "from 1970-01-02 to 1970-01-04")):
        (tmp_path / "w" / name).write_text("{}")
        os.utime(tmp_path / "w" / name, ns=(0, (1 if name == "a.json" else 3) * 86_400 * 10**9))
        assert kept("abc", "--summary") == "unknown"
        assert f"{harness.UNNOTED} {days}.\n" in harness.RESULTS.read_text()
    (tmp_path / "w" / "model0.json").write_text("{}")
    assert kept("abc") == "several"


def test_a_changed_file_and_an_added_module_make_a_tree_dirty(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    (tmp_path / "ssdtune").mkdir()
    (tmp_path / "ssdtune" / "a.py").write_text("A = 1\n")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(["git", "-C", tmp_path, *words.split()], check=True)
    clean = harness.commit()
    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    (tmp_path / "ssdtune" / "notes.txt").write_text("nothing that runs")
    assert harness.commit() == clean
    (tmp_path / "ssdtune" / "b.py").write_text("B = 1\n")
    assert harness.commit() == f"{clean}-dirty"
    (tmp_path / "ssdtune" / "b.py").unlink()
    (tmp_path / "ssdtune" / "a.py").write_text("A = 2\n")
    assert harness.commit() == f"{clean}-dirty"
