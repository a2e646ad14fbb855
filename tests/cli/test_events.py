"""A worker's log as JSON: one line an event, nothing that names a patient or holds a password."""

import io
import json
import sys
import warnings

import pytest

from ssdtune.cli.events import Events, plain_words, write_error
from ssdtune.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "no such file or folder, /data/DOE_JOHN/scan.h5, check the path",
        "'Doe^John.h5' is named 2 times",
        "the retain and forget sets share 3 slices (same k-space: doe_john.h5:0 and other.h5:1)",
        "storage failed, postgresql://lab:hunter@host/db",
        "patient 19760412 has no clean target",
        "doe.john/scan-7.h5 is damaged",
        "'/data/knees of john doe.h5' is such a file",
    ],
)
def test_paths_names_numbers_and_addresses_are_left_out(text):
    told = plain_words(text).lower()
    assert not any(secret in told for secret in ("doe", "john", "hunter", "lab", "1976", ".h5", "/"))
    assert any(word in told for word in ("is", "such", "share", "failed", "patient"))


def test_a_path_with_spaces_is_left_out_of_an_error():
    out, reason = io.StringIO(), DataError("no HDF5 files", "/data/knees of john doe", "check the path")
    write_error(out, reason, str(reason))
    assert json.loads(out.getvalue())["why"] == "no … files, … check the path"


def test_everything_on_standard_error_becomes_a_line(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    events = Events(True)
    with events.alone():
        events("trial", "unseen", score=0.5)
        print("warning: few samples in /data/Doe", file=sys.stderr)
        warnings.warn("loud", stacklevel=1)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines][:2] == ["trial", "message"]
    assert lines[0]["score"] == 0.5 and "time" in lines[0]
    assert lines[1]["words"] == "warning: few samples in …"
    assert sys.stderr is out
