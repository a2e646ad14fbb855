"""The output that commands share: tables that show what is in them, JSON without NaN, one line for wrong usage."""

import errno
import io
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from ssdtune.cli import console, main
from ssdtune.cli.console import bar, count, each_said_once, print_json, print_table, say, track
from ssdtune.cli.storage import next_line
from ssdtune.errors import DataError


def test_a_table_shows_texts_as_they_are_and_numbers_to_the_right(capsys):
    print_table(["file", "slices", "score"], [["odd[b][/b] :x: name.h5", 3, None], ["a.h5", 12, 0.123456]])
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert ["odd[b][/b] :x: name.h5", "3"] in rows
    assert ["a.h5", "12", "0.1235"] in rows


def test_a_narrow_terminal_breaks_no_word_and_no_number(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    long = "a fact that is told in many words which do not fit"
    print_table(["a_rather_long_name", "value"], [["retain_heldout_psnr", 12.345], [long, -0.00054321]])
    words = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).split()
    assert {"a_rather_long_name", "retain_heldout_psnr", "12.35", "-0.0005432", *long.split()} <= set(words)


def test_a_list_in_a_table_is_numbers_of_a_few_digits(capsys):
    print_table(["what", "value"], [["scales", [0.07999999821186066, 3]]])
    assert capsys.readouterr().out.split()[-2:] == ["0.08,", "3"]


def test_long_work_into_a_pipe_says_where_it_is(capsys, monkeypatch):
    said = []

    def slow(number):
        """Each takes until it is told of."""
        for item in range(number):
            while not any(f": {item} of {number}" in line for line in said):
                said.extend(capsys.readouterr().err.splitlines())
                time.sleep(0.005)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(console, "QUIET", 0.05)
        assert list(track(slow(3), "slices", 3)) == [0, 1, 2]
        assert said[0] == "slices: 0 of 3" and re.fullmatch(r"slices: 2 of 3, about \d+ s left", said[-1])
        said.clear()
        assert list(count(slow(3), "first trials", 3)) == [0, 1, 2]
        assert said[-1] == "first trials: 2 of 3"  # which say nothing of the last
        said.clear()
        assert list(bar(slow(1), "trials", 1)) == [0]  # a single one too
    capsys.readouterr()
    assert list(bar(range(4), "trials", 4)) == [0, 1, 2, 3]  # says a line with each itself
    assert capsys.readouterr().err == ""


def test_a_warning_comes_once_with_several_commands(capsys):
    with each_said_once():
        for line in ("few samples", "few samples", "a vanishing layer"):
            say(line)
    say("few samples")
    assert capsys.readouterr().err.splitlines() == [
        "warning: few samples",
        "warning: a vanishing layer",
        "warning: few samples",
    ]


def test_json_has_no_nan(capsys):
    print_json({"a": float("nan"), "b": [1.5, float("inf")], 3: ("x", None)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "3": ["x", None]}


def usage(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["trian"], ["--jsno"], ["study", "best"], ["data", "simulate", "x", "--coils", "y"]]
)
def test_wrong_usage_is_one_line_that_says_where_to_look(capsys, arguments):
    err = usage(capsys, *arguments)
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "see: ssdtune" in err
    assert err.endswith("--help\n")


@pytest.mark.parametrize("arguments", [[], ["data"], ["study"], ["prior"]])
def test_a_group_alone_shows_its_help(capsys, arguments):
    err = usage(capsys, *arguments)
    assert err.startswith(" ".join(["Usage: ssdtune", *arguments]))
    assert "Commands:" in err


@pytest.mark.parametrize("arguments", [["--debug", "data", "check", "absent"], ["data", "check", "absent", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(arguments):
    with pytest.raises(DataError, match="no such file"):
        main(arguments)


@pytest.mark.parametrize("reason", [MemoryError("Unable to allocate 7 TiB"), RuntimeError("CUDA out of memory. Tried")])
def test_a_lack_of_memory_is_one_line(reason, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise reason

    monkeypatch.setattr("ssdtune.mri.phantom.simulate.simulate_folder", fail)
    err = usage(capsys, "data", "simulate", "x")
    assert err == f"error: not enough memory ({str(reason).removesuffix('. Tried')}), ssdtune, choose smaller sizes\n"


def test_a_full_disk_behind_the_output_is_one_line(capsys, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ssdtune.mri.kspace.check.check_files", fail)
    with pytest.raises(SystemExit) as stop:
        main(["data", "check", __file__])
    assert stop.value.code == 3
    assert capsys.readouterr().err == "error: No space left on device, check disk and permissions\n"


def test_a_name_that_the_terminal_cannot_show_is_shown_otherwise(monkeypatch, tmp_path, fastmri_file):
    fastmri_file(tmp_path / "\u6f22.h5")
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", out)
    main(["data", "check", str(tmp_path)])
    out.flush()
    assert rb"\u6f22.h5" in out.buffer.getvalue()


def test_no_standard_output_stops_nothing(monkeypatch, tmp_path, fastmri_file):
    fastmri_file(tmp_path / "a.h5")
    monkeypatch.setattr("sys.stdout", None)
    main(["data", "check", str(tmp_path)])


def test_a_command_to_type_next_can_be_typed():
    line = next_line("sqlite:///my studies.db", "study", "list")
    assert line == "ssdtune study list --storage 'sqlite:///my studies.db'"
    assert next_line(None, "study", "run", "my study") == "ssdtune study run 'my study'"


def test_a_command_to_type_next_keeps_a_password_to_itself(monkeypatch):
    line = next_line("postgresql://lab:secret@host/studies", "study", "list")
    assert line == "ssdtune study list --storage 'postgresql://lab:***@host/studies'"
    monkeypatch.setenv("SSDTUNE_STORAGE", "postgresql://lab:secret@host/studies")
    assert next_line(None, "study", "list") == "ssdtune study list"


@pytest.mark.parametrize("words", ["--help", "study methods --json"])
def test_a_reader_that_has_read_enough_ends_it_silently_as_sigpipe_does(words):
    command = [sys.executable, "-c", "from ssdtune.cli import main; main()", *words.split()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == ("", 128 + signal.SIGPIPE)
