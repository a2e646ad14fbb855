"""The measurements of ``benchmarks.gpu`` at tiny size on a CPU, and that no failure takes the others along."""

from argparse import Namespace
from dataclasses import replace

import pytest
from part_work import work

from benchmarks.gpu import parts, study
from benchmarks.gpu.__main__ import metrics_of
from benchmarks.gpu.parts import Part, run_part, run_parts

OPTIONS = Namespace(device="cpu", quick=True, seed=0)


def figures(name):
    rows = []
    run_part(name, OPTIONS, rows.append)
    return dict(rows)


def test_the_networks_in_every_way():
    found = figures("varnet_320px")
    rates = {key for key in found if key.endswith("_slices_s")}
    ways = {f"{dtype}.{way}" for dtype in ("float32", "bfloat16") for way in ("plainly", "channels_last")}
    others = {"plain", "evaluator", "bfloat16.evaluator", "train.float32", "train.bfloat16"}
    assert rates == {f"varnet_320px.{name}_slices_s" for name in ways | others}
    assert all(isinstance(value, float) and value > 0 for value in found.values())
    assert 0 < found["varnet_320px.bfloat16.image_rel_diff"] < 0.1


def test_the_fisher_analysis():
    found = figures("fisher")
    assert found["fisher.gradients_per_s"] >= found["fisher.slices_per_s"] > 0


def test_a_study(monkeypatch):
    monkeypatch.setattr(study, "TINY", replace(study.TINY, channels=2, pools=1, epochs=1, train=5, retain=5, forget=5))
    found = figures("study")
    assert found["study.study_plain_s"] / found["study.study_fast_s"] == pytest.approx(found["study.study_speedup"])
    assert found["study.bfloat16_taken"] in (0, 1)


def steps_that_fail(options):
    def half():
        yield "first", 1.0
        raise RuntimeError("no memory\nat all")

    yield "half", half
    yield "whole", lambda: [("second", 2)]
    raise ValueError("no case")


def test_what_fails_is_a_row_and_the_rest_stays(monkeypatch):
    monkeypatch.setitem(parts.PARTS, "odd", Part(steps_that_fail, 1))
    rows = []
    run_part("odd", OPTIONS, rows.append)
    assert rows == [
        ("odd.first", 1.0),
        ("odd.half", "failed: RuntimeError: no memory"),
        ("odd.second", 2.0),
        ("odd", "failed: ValueError: no case"),
    ]
    assert metrics_of(rows) == {"odd.first": 1.0, "odd.second": 2.0, "failures": 2.0}


def test_a_part_that_hangs_or_dies_ends_alone(monkeypatch):
    monkeypatch.setattr(parts, "_work", work)
    rows = run_parts({"hangs": 1, "dies": 100}, OPTIONS)
    assert [row for row in rows if row != ("hangs.first", 1.0)] == [  # where one second was enough to start
        ("hangs", "stopped after 1 s"),
        ("dies.first", 1.0),
        ("dies", "its process ended with code 3"),
    ]
