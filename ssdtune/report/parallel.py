"""Trials of many knobs as parallel coordinates: an axis a row, a line a trial from top to bottom.

Drawn as plain lines: Plotly's own kind needs WebGL, cannot be printed, and its upright axes do not fit a narrow screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from ssdtune.report.chart import line, new_chart
from ssdtune.report.style import MUTED, QUIET, SEQUENTIAL
from ssdtune.unlearning.method import Knob

_SHADES = 24  # colours of lines


@dataclass(frozen=True, eq=False)
class Row:
    """One axis: values (n,) of the trials, its two ends, and what is written at which value."""

    label: str
    values: np.ndarray
    ends: tuple[float, float]
    ticks: Sequence[tuple[float, str]]

    def share(self, values: Any) -> np.ndarray:
        """How far along the axis values lie, 0 to 1."""
        low, high = self.ends
        return (np.asarray(values, float) - low) / ((high - low) or 1.0)


def knob_row(knob: Knob, values: np.ndarray) -> Row:
    """A knob's axis, by its scale; labelled with its own numbers."""
    log = knob.scale == "log"
    marks = np.geomspace(knob.low, knob.high, 3) if log else np.linspace(knob.low, knob.high, 3)
    of = np.log10 if log else np.asarray
    low, _, high = of(marks)
    ticks = [(float(of(mark)), f"{mark:.3g}") for mark in marks]
    return Row(knob.name, of(values), (float(low), float(high)), ticks)


def number_row(label: str, values: np.ndarray, form: str = "g") -> Row:
    """An axis from the least to the largest value."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Row(label, values, (low, high), [(low, f"{low:{form}}"), (high, f"{high:{form}}")])


def choice_row(label: str, places: np.ndarray, names: Sequence[str]) -> Row:
    """An axis of named places 0, 1, ..."""
    ends = (0.0, max(len(names) - 1.0, 1.0))
    return Row(label, places, ends, [(float(place), name) for place, name in enumerate(names)])


def parallel_figure(
    title: str, rows: Sequence[Row], colour: np.ndarray, colours: dict[str, Any], words: Sequence[str]
) -> go.Figure:
    """A line a trial through all rows. colour : (n,) its number on the scale ``colours``. words : on hovering."""
    depth = -np.arange(len(rows), dtype=float)
    up = {"tickvals": depth.tolist(), "ticktext": [row.label for row in rows], "range": [depth[-1] - 0.6, 0.35]}
    plain = {"showgrid": False, "showline": False, "ticks": ""}
    across = {"visible": False, "range": [-0.04, 1.04]}
    chart = new_chart(title, across, {**up, **plain, "automargin": True}, height=150 + 58 * len(rows))
    chart.update_layout(showlegend=False, coloraxis=colours, margin={"b": 30})
    places = np.stack([row.share(row.values) for row in rows])
    level = np.clip((colour - colours["cmin"]) / ((colours["cmax"] - colours["cmin"]) or 1.0), 0, 1)
    shade = np.round(level * (_SHADES - 1)).astype(int)
    for each in np.unique(shade):
        chosen = places[:, shade == each]
        gap = np.full((1, chosen.shape[1]), np.nan)
        x = np.concatenate([chosen, gap]).T.ravel()
        y = np.tile([*depth, np.nan], chosen.shape[1])
        (tone,) = sample_colorscale(SEQUENTIAL, [each / (_SHADES - 1)])
        chart.add_scatter(x=x, y=y, mode="lines", line=line(tone, 1.2), opacity=0.75, hoverinfo="skip", name="trials")
    for place, row in enumerate(rows):
        chart.add_shape(type="line", x0=0, x1=1, y0=depth[place], y1=depth[place], line=line(MUTED, 1), layer="below")
        chart.add_scatter(
            name=row.label,
            x=places[place],
            y=np.full(len(row.values), depth[place]),
            mode="markers",
            marker={"size": 7, "color": colour, "coloraxis": "coloraxis"},
            text=list(words),
            hovertemplate="%{text}<extra></extra>",
        )
        for value, text in row.ticks:
            note = {"showarrow": False, "yanchor": "top", "yshift": -6, "font": {"size": 11, "color": QUIET}}
            chart.add_annotation(x=float(row.share(value)), y=depth[place], text=text, **note)
    return chart
