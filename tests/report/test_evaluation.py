"""The table of the field's measures: whose it is, and how values, spreads and intervals read."""

import pytest

from ssdtune.audit.audit import Audit, Row
from ssdtune.report.evaluation import audit_blocks, audit_columns, audit_rows
from ssdtune.report.page import Table, Text


def found(value=0.5, **more):
    rows = [
        Row("UA ssim", {"untouched": 0.9, "unlearned": value}, {"untouched": 0.01, "unlearned": None}),
        Row("BTA psnr", {"unlearned": 30.123}, {"unlearned": 1.5}),
        Row("MIA, loss attack", {"unlearned": 0.75}, interval={"unlearned": (0.5, 0.9)}),
        Row("relearn time, steps (of 30)", {"unlearned": 3}),
        Row("AIN", {"unlearned": None}),
    ]
    return Audit(rows, {"UA": "5 known forget slices"}, ["ToW: there is no oracle"], **more)


def test_values_read_with_their_spread_or_interval():
    assert audit_columns(found()) == ["measure", "untouched", "unlearned"]
    assert audit_rows(found()) == [
        ["UA ssim", "0.9000 ± 0.0100", "0.5000"],
        ["BTA psnr", "", "30.12 ± 1.50"],
        ["MIA, loss attack", "", "0.7500 [0.50, 0.90]"],
        ["relearn time, steps (of 30)", "", "3"],
        ["AIN", "", "not reached"],
    ]


@pytest.mark.parametrize(("best", "shown"), [(2, 2), (5, 4), (None, 4)])
def test_the_best_trial_is_shown_else_the_last_that_was_evaluated(best, shown):
    note, table, missing = audit_blocks({2: found(0.2), 4: found(0.4)}, best)
    assert isinstance(note, Text) and note.text.startswith(f"Trial {shown};") and "5 known forget slices" in note.text
    assert isinstance(table, Table) and table.rows[0][2] == f"0.{shown}000"
    assert missing.text == "Not measured: ToW: there is no oracle."
