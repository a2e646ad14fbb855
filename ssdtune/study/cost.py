"""What a study's trials cost, and what the plain way would have cost: every slice of every trial, one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from ssdtune.objective.outcome import EXACT, REUSED, STOPPED
from ssdtune.study.record import PREPARATION, read_trial
from ssdtune.study.trials import FINISHED

PHASES = ("unlearn", "reconstruct", "score", "io", "search")
_EARLIER = {"seconds_dampen": "seconds_unlearn", "plain_slice_seconds": "seconds_plain_slice"}  # names of version 1


@dataclass(frozen=True)
class Cost:
    """The account of a study.

    slices, possible : evaluated (the untouched model's too, where measured anew), and slices times trials. passes :
    slice passes of unlearning and evaluation (a forward counts 1); preparation : of what was done once beside them.
    seconds : by phase; ``evaluate`` is what trials of ``--exact`` took altogether. stopped : trials stopped early, by
    reason. reused : trials that do what an earlier one did. plain_seconds : what the plain way would have taken, from a
    few slices timed at the start; None if none were.
    """

    trials: int
    exact: int
    slices: int
    possible: int
    passes: float
    seconds: dict[str, float]
    stopped: dict[str, int]
    reused: int
    plain_seconds: float | None
    preparation: float = 0.0

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "total": self.total}

    def rows(self) -> list[tuple[str, str]]:
        """(what, value) in words."""
        share = f" ({self.slices / self.possible:.0%})" if self.possible else ""
        early = ", ".join(f"{count} {reason}" for reason, count in self.stopped.items()) or "none"
        seconds = ", ".join(f"{phase} {value:.1f} s" for phase, value in self.seconds.items() if value)
        rows = [
            ("slices evaluated", f"{self.slices} of {self.possible}{share}"),
            ("slice passes", f"{self.passes:.0f}, and {self.preparation:.0f} to prepare"),
            ("time", f"{self.total:.1f} s: {seconds}" if seconds else "none recorded"),
            ("stopped early", early),
            ("not evaluated again", f"{self.reused} that do what an earlier one did" if self.reused else "none"),
        ]
        if self.exact:
            rows.append(("exact", f"{self.exact} of {self.trials} trials, without shortcuts"))
        if self.plain_seconds is not None and self.total > 0:
            times = f", {self.plain_seconds / self.total:.1f} times as much"
            rows.append(("the plain way", f"about {self.plain_seconds:.0f} s{times}"))
        return rows


def cost_of(study: optuna.Study) -> Cost:
    """The account of a study's finished trials, and of what its method did once."""
    found = cost_of_trials(study.get_trials(deepcopy=False, states=FINISHED))
    return replace(found, preparation=study.user_attrs.get(PREPARATION, 0.0))


def cost_of_trials(trials: Sequence[FrozenTrial]) -> Cost:
    """The account of finished trials of one study."""
    values = [{_EARLIER.get(name, name): value for name, value in read_trial(trial).items()} for trial in trials]
    sizes = [value["slices_possible"] for value in values if "slices_possible" in value]
    possible = max(sizes, default=0) * len(values)
    plain = [value["seconds_plain_slice"] for value in values if "seconds_plain_slice" in value]
    seconds = {phase: sum(value.get(f"seconds_{phase}", 0.0) for value in values) for phase in (*PHASES, "evaluate")}
    return Cost(
        trials=len(values),
        exact=sum(bool(value.get(EXACT)) for value in values),
        slices=sum(value.get("slices", 0) for value in values),
        possible=possible,
        passes=sum(value.get("cost", value.get("slices", 0)) for value in values),
        seconds=seconds,
        stopped=dict(Counter(value[STOPPED] for value in values if STOPPED in value)),
        reused=sum(REUSED in value for value in values),
        plain_seconds=min(plain) * possible + seconds["unlearn"] if plain else None,
    )
