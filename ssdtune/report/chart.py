"""One Plotly chart in the house style, and the small pieces that charts share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from ssdtune.report.style import AXIS, RED, house_layout


def new_chart(title: str, x: Mapping[str, Any], y: Mapping[str, Any], height: int = 460) -> go.Figure:
    """An empty chart; ``x`` and ``y`` are Plotly axis settings. The legend lies below, so it covers no data."""
    layout = house_layout(title, height)
    below = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "bgcolor": "rgba(0,0,0,0)", "borderwidth": 0}
    layout["legend"] |= below
    layout["margin"] |= {"b": 104}
    # all at once: every update of a figure walks through all of its settings
    return go.Figure(layout={**layout, "xaxis": {**AXIS, **x}, "yaxis": {**AXIS, **y}})


def line(colour: str, width: float = 2, dash: str = "solid", **more: Any) -> dict[str, Any]:
    """Plotly's line settings."""
    return {"color": colour, "width": width, "dash": dash, **more}


def translucent(colour: str, opacity: float) -> str:
    """A ``#rrggbb`` colour as rgba."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"


def star(chart: go.Figure, x: float, y: float, name: str, text: str, **panel: int) -> None:
    """One place apart from the others, ``text`` on hovering; ``panel`` is ``row`` and ``col`` of a subplot."""
    marker = {"symbol": "star-open", "size": 18, "color": RED, "line": {"width": 2}}
    hover = f"{name}<br>{text}<extra></extra>"
    chart.add_scatter(x=[x], y=[y], mode="markers", name=name, marker=marker, hovertemplate=hover, **panel)
