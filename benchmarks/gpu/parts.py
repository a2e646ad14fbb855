"""Parts of a long measurement, each in a process of its own with a limit, so that no failure takes the others along.

A failed kernel leaves a GPU of no use to the process that ran it, and a compilation can be stopped from outside alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from benchmarks.gpu import fisher, networks, study

Figures = Iterable[tuple[str, float]]
Step = tuple[str, Callable[[], Figures]]
"""A measurement: its name, and what gives its figures by name, one after the other."""

Row = tuple[str, "float | str"]
"""A figure by its full name, or in words why there is none."""


@dataclass(frozen=True)
class Part:
    """``steps(options)`` gives its measurements; ``seconds`` is what they may take, the start included."""

    steps: Callable[[argparse.Namespace], Iterator[Step]]
    seconds: float


PARTS = {  # 7 minutes 40 in all
    "varnet_320px": Part(partial(networks.steps, pixels=320), 120),
    "varnet_256px": Part(partial(networks.steps, pixels=256), 110),
    "fisher": Part(fisher.steps, 100),
    "study": Part(study.steps, 130),
}


def run_parts(limits: Mapping[str, float], options: argparse.Namespace) -> list[Row]:
    """The rows of all parts by name, each stopped after its seconds."""
    rows: list[Row] = []
    for name, seconds in limits.items():
        for row in _within(name, seconds, options):
            print(*row, file=sys.stderr, flush=True)
            rows.append(row)
    return rows


def run_part(name: str, options: argparse.Namespace, send: Callable[[Row], object]) -> None:
    """Take a part's measurements one by one; ``send`` gets every row as soon as it is there."""
    from ssdtune.device import full_precision

    with full_precision():
        try:
            for step, figures in PARTS[name].steps(options):
                try:
                    for key, value in figures():
                        send((f"{name}.{key}", float(value)))
                except Exception as reason:
                    send((f"{name}.{step}", _in_words(reason)))
        except Exception as reason:  # what all its steps need could not be made
            send((name, _in_words(reason)))


def _within(name: str, seconds: float, options: argparse.Namespace) -> Iterator[Row]:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(name, options, theirs))
    ends = time.monotonic() + seconds
    process.start()
    theirs.close()
    try:
        while mine.poll(max(ends - time.monotonic(), 0)):
            yield mine.recv()
        yield name, f"stopped after {seconds:.0f} s"
    except EOFError:
        process.join()
        if process.exitcode:
            yield name, f"its process ended with code {process.exitcode}"
    finally:
        process.kill()
        process.join()
        mine.close()


def _work(name: str, options: argparse.Namespace, mine: Connection) -> None:
    run_part(name, options, mine.send)
    mine.close()


def _in_words(reason: Exception) -> str:
    words = [type(reason).__name__, *str(reason).strip().splitlines()[:1]]
    return f"failed: {': '.join(words)}"[:200]
