"""Successive halving (Jamieson & Talwalkar, AISTATS 2016): which of several arms the next trial is of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ssdtune.unlearning.method import Tried


def next_arm(own: Mapping[str, Sequence[Tried]], total: float, cost: Callable[[Tried], float]) -> str | None:
    """The arm that is to be tried next; None: nothing is left of the budget.

    M arms go through R = ceil(log2 M) + 1 rungs. In each rung those that are left may spend equal parts of a share
    1 / R of ``total``; then the better half of them, by the best trial of each so far, goes on.

    own : the trials of each arm, cheap arms first: of equals they go on. cost : what a trial takes of the budget.
    """
    spent = {name: sum(map(cost, tried)) for name, tried in own.items()}
    if sum(spent.values()) >= total:
        return None
    left, allowed, rungs = list(own), 0.0, math.ceil(math.log2(len(own))) + 1
    for _ in range(rungs):
        allowed += total / rungs / len(left)
        for name in left:
            if not own[name] or spent[name] < allowed * (1 - 1e-9):
                return name
        left.sort(key=lambda name: max(each.rank for each in own[name]), reverse=True)  # stable
        left = left[: math.ceil(len(left) / 2)]
    return None
