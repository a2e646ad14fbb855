"""What commands share: tables, JSON output, progress bars."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import click

T = TypeVar("T")

QUIET = 30.0
"""Seconds that a long piece of work may be silent for where its bar is not drawn."""

FILE = click.Path(dir_okay=False, path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
study_file_argument = click.argument("study_file", metavar="STUDY.toml", type=FILE)


class FiniteRange(click.FloatRange):
    """Numbers within bounds, of which NaN and infinity are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number.", param, ctx)
        return found


def file_option(name: str, metavar: str, text: str, required: bool = False) -> Callable[..., Any]:
    """An option that takes the path of a file."""
    return click.option(name, metavar=metavar, type=FILE, help=text, required=required)


def print_json(value: Any) -> None:
    """One JSON document on standard output; NaN becomes null."""
    click.echo(json.dumps(_finite(value), indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A plain table, columns aligned, numbers to the right; in a narrow terminal texts wrap, words do not."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        texts = [row[index][0] for row in cells]
        numeric = [row[index][1] for row in cells if row[index][0]]
        word = max(len(word) for text in (column, *texts) for word in (text.split() or [""]))
        table.add_column(column, justify="right" if numeric and all(numeric) else "left", min_width=word)
    for line in cells:
        table.add_row(*(text for text, _ in line))
    width = None if sys.stdout is not None and sys.stdout.isatty() else 160
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, Measurement.get(console, console.options.update_width(1000), table).minimum)
    console.print(table, crop=False)


def print_rows(rows: Sequence[Mapping[str, object]], title: str | None = None) -> None:
    """A table of rows with the same keys, which are its columns; nothing of no rows."""
    if rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows], title)


_said: ContextVar[set[str] | None] = ContextVar("said", default=None)


@contextmanager
def each_said_once() -> Iterator[None]:
    """Within it no warning is said a second time, whichever commands it comes with."""
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)


def say(line: str) -> None:
    """What a user should know and that stops nothing, on standard error (a ``ssdtune.progress.Say``)."""
    said = _said.get()
    if said is not None and line in said:
        return
    if said is not None:
        said.add(line)
    click.echo(f"warning: {line}", err=True)


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Progress bar with an ETA on standard error (a ``ssdtune.progress.Track``); where that is no terminal a line every
    half minute."""
    return _shown(items, description, total, tells=False)


def bar(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """``track`` for work that says a line of its own with each item: where there is no terminal, a line only after half
    a minute without one."""
    return _shown(items, description, total, tells=True)


def count(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """``track`` for items that take very different times: no time left is told."""
    return _shown(items, description, total, tells=False, even=False)


def _shown(items: Iterable[T], description: str, total: int, tells: bool, even: bool = True) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if console.is_terminal:
        columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
        columns += [TimeRemainingColumn(elapsed_when_finished=True)] if even else []
        with Progress(*columns, console=console, transient=True) as progress:
            yield from progress.track(items, total, description=description)
        return
    start, done, over, told = time.monotonic(), 0, False, threading.Event()

    def speak() -> None:
        while not over:
            if told.wait(QUIET):
                told.clear()
                continue
            left = (time.monotonic() - start) / done * (total - done) if done and even else 0.0
            words = f", about {left:.0f} s left" if left else ""
            print(f"{description}: {done} of {total}{words}", file=sys.stderr, flush=True)

    speaker = threading.Thread(target=speak, daemon=True)  # an item may take longer than that
    speaker.start()
    try:
        for item in items:
            yield item
            done += 1
            if tells:
                told.set()
    finally:
        over = True
        told.set()
        speaker.join()


def words_of(given: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in given.split(",") if word.strip()]


def _cell(value: object) -> tuple[str, bool]:
    if isinstance(value, list | tuple):
        return ", ".join(_cell(item)[0] for item in value), False
    if isinstance(value, bool) or value is None:
        return ("" if value is None else "yes" if value else "no"), False
    if isinstance(value, float):
        return f"{value:.4g}", True
    return str(value), isinstance(value, int)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
