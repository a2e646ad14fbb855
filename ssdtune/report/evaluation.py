"""The field's measures of evaluated trials as a table."""

from __future__ import annotations

from collections.abc import Mapping

from ssdtune.audit.audit import MODELS, Audit, Row
from ssdtune.report.page import Block, Table, Text


def audit_columns(found: Audit) -> list[str]:
    """``measure`` and the models that any row has a value of."""
    return ["measure", *(model for model in MODELS if any(model in row.values for row in found.rows))]


def audit_rows(found: Audit) -> list[list[str]]:
    """One row a measure: its value for each model, with the spread over volumes or the 95 % interval over subjects."""
    return [[row.name, *(_cell(row, model) for model in audit_columns(found)[1:])] for row in found.rows]


def audit_blocks(audits: Mapping[int, Audit], best: int | None) -> list[Block]:
    """The evaluation of the best trial, else the last one that was made."""
    number = best if best is not None and best in audits else max(audits)
    found = audits[number]
    columns = audit_columns(found)
    note = f"Trial {number}; ± is the standard deviation over volumes, brackets hold 95 % intervals over subjects. "
    sets = "; ".join(f"{name}: {words}" for name, words in found.sets.items())
    return [
        Text(note + sets + "."),
        Table(columns, audit_rows(found), numeric=range(1, len(columns))),
        *(Text(f"Not measured: {words}.") for words in found.missing),
    ]


def _cell(row: Row, model: str) -> str:
    if model not in row.values:
        return ""
    value = row.values[model]
    if value is None:
        return "not reached"  # a relearning that its steps were not enough for, and what is made of it
    digits = 2 if "psnr" in row.name else 4
    text = str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    if (spread := row.spread.get(model)) is not None:
        text += f" ± {spread:.{digits}f}"
    if model in row.interval:
        low, high = row.interval[model]
        text += f" [{low:.2f}, {high:.2f}]"
    return text
