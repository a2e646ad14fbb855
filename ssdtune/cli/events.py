"""What a worker says as it works: words for a person, or one JSON line an event."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from typing import Any, TextIO

LOG_JSON = "--log-json"

_PLAIN = re.compile(r"[a-z]+(?:['-][a-z]+)*|\d{1,5}(?:\.\d{1,4})?|[+-]?\d\.\d+(?:e[+-]\d+)?|'?--[a-z]+(?:-[a-z]+)*'?")
_SEVERAL = re.compile(r"(?<!\w)'[^']* [^']*'(?!\w)")  # a quoted name with spaces in it


class Events:
    """``events("trial", "the words", score=0.9)`` writes to standard error: the words, or all but them as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json, self._out = as_json, sys.stderr

    def __call__(self, event: str, words: str, **facts: Any) -> None:
        if self.as_json:
            write_event(self._out, event, **facts)
        else:
            print(words, file=sys.stderr, flush=True)  # not click.echo, which writes past a progress bar

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have everything else that is printed to standard error become events too."""
        if not self.as_json:
            yield
            return
        with redirect_stderr(_Messages(self._out)):
            yield


def write_event(out: TextIO, event: str, **facts: Any) -> None:
    """One JSON line with the time (UTC)."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    out.write(json.dumps(line, default=str) + "\n")
    out.flush()


def write_error(out: TextIO, reason: BaseException, words: str) -> None:
    """What ends a command, as an event."""
    write_event(out, "error", error=type(reason).__name__, why=plain_error(reason, words[:1].lower() + words[1:]))


def plain_error(reason: BaseException, words: str) -> str:
    """``plain_words`` of what is said of an error, the place that it names left out as a whole."""
    where = getattr(reason, "where", "")
    return plain_words(words.replace(where, "…") if "/" in where or "." in where else words)  # a path may have spaces


def plain_words(text: str) -> str:
    """A message without what may name a patient or hold a secret: plain words, options and short numbers stay.

    Paths, file names, addresses, quoted names and anything with a capital or an underscore in it become ``…``.
    """
    text = _SEVERAL.sub("…", text)
    kept = [word if _PLAIN.fullmatch(word.strip(",;:.()")) else "…" for word in text.split()]
    return re.sub(r"…( …)+", "…", " ".join(kept))


class _Messages:
    """A standard error whose lines are events."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._part = out, ""

    def write(self, text: str) -> int:
        *lines, self._part = (self._part + text).replace("\r", "\n").split("\n")
        for line in filter(str.strip, lines):
            write_event(self._out, "message", words=plain_words(line))
        return len(text)

    def flush(self) -> None:
        """Lines are written as they end."""

    def isatty(self) -> bool:
        return False
