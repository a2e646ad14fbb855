"""Progress as a value: long work takes a ``track`` and wraps its loop in it; the command line passes one that draws.

Likewise ``say`` takes what a user should know and that stops nothing, one line at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable of known length; each item taken advances the bar."""

    def __call__(self, items: Iterable[T], description: str, total: int) -> Iterator[T]: ...


def silent(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """The default ``track``: shows nothing."""
    return iter(items)


Say = Callable[[str], None]


def unsaid(line: str) -> None:
    """The default ``say``: keeps it to itself."""


def in_parts(parts: Iterable[T], size: Callable[[T], int], description: str, total: int, track: Track) -> Iterator[T]:
    """``parts`` with a bar that counts the items in each, ``total`` in all."""
    ticks = iter(track(range(total), description, total))
    for part in parts:
        yield part
        for _ in range(size(part)):
            next(ticks, None)
    next(ticks, None)  # lets the bar finish
