"""What evaluations cost: slices and seconds by what they went into."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PHASES = ("unlearn", "reconstruct", "score", "io")


@dataclass
class Account:
    """Seconds by phase (``unlearn``, ``reconstruct``, ``score``, ``io``), and slices reconstructed."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    slices: int = 0

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - started

    def since(self, before: Account) -> Account:
        """What was added after ``before``, a ``copy`` of this account."""
        seconds = {phase: value - before.seconds[phase] for phase, value in self.seconds.items()}
        return Account(seconds, self.slices - before.slices)

    def copy(self) -> Account:
        return Account(dict(self.seconds), self.slices)
