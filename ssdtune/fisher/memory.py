"""What the memory budget is spent on, decided before the first gradient.

Bytes beside the model, for P parameters:

    while gradients stream   28 P   theta 4, one set's moments 16, the other set's results 8
    while tables are built   56 P   theta, diagonals, means, denominator 24, sort 16 or ratios and weights 28, a row 4
    rows kept                4 n P  of both sets, as far as they fit
    a pass                   rest   activations, gradients and rows of one chunk; views of rows on disk
    libraries                32 MiB buffers of matrix products and convolutions
"""

from __future__ import annotations

from dataclasses import dataclass

from ssdtune.errors import ConfigError

_STREAMING, _TABLES, _ROW = 28, 56, 4
_LIBRARIES = 2.0**25
_PASS_SHARE = 0.25  # of the budget, left to the passes at least


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes for each purpose.

    kept : whether the rows of each set are held in memory. workspace : for one pass of the engine.
    view : for a view of one set's rows that are not held in memory.
    """

    kept: tuple[bool, ...]
    workspace: float
    view: float


def plan_memory(parameters: int, rows: tuple[int, ...], budget: float) -> MemoryPlan:
    """Divide ``budget`` bytes; sets given first are kept in memory first.

    Raises ConfigError: the budget is too small for this many parameters whatever is done.
    """
    least = _TABLES * parameters + _LIBRARIES
    if least > budget:
        what = f"{budget / 2**30:.2f} GiB are too little for {parameters:,} parameters"
        raise ConfigError(what, "memory_budget", f"give at least {least / 2**30 + 0.01:.2f} GiB")
    budget -= _LIBRARIES
    passes = max(_PASS_SHARE * budget, 3 * _ROW * parameters)
    left = budget - max(_TABLES * parameters, _STREAMING * parameters + passes)
    kept = []
    for n in rows:
        kept.append(_ROW * n * parameters <= left)
        left -= _ROW * n * parameters if kept[-1] else 0
    held = sum(_ROW * n * parameters for n, here in zip(rows, kept, strict=True) if here)
    rest = budget - _STREAMING * parameters - held
    if all(kept):
        return MemoryPlan(tuple(kept), rest, 0.0)
    # views of both sets' columns are held while the engine may work
    beside_tables = budget - held - (_TABLES - _ROW) * parameters
    return MemoryPlan(tuple(kept), rest / 2, min(rest / 4, beside_tables))
