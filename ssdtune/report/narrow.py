"""A figure's title as text, and its layout on a narrow screen: panels and colour bars below each other."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import plotly.graph_objects as go

_LETTERS = 36  # of an axis title in one line
_PANEL, _GAP = 300, 84  # pixels: a panel's height, and what lies between two
_BAR, _TOP, _ROW = 56, 26, 22  # a colour bar below, the top, one line of the legend


def title_apart(figure: go.Figure) -> tuple[str, str]:
    """(title, what stands below it) as plain text."""
    title, _, note = (figure.layout.title.text or "").partition("<br>")
    return _plain(title), _plain(note)


def narrow_layout(layout: Mapping[str, Any], traces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The layout for about 350 pixels, from the JSON of a figure without a title."""
    found = deepcopy(dict(layout))
    panels = _panels(found)
    inner = found.get("height", 440) - 130 if len(panels) == 1 else len(panels) * _PANEL + (len(panels) - 1) * _GAP
    if len(panels) > 1:
        _stack(found, panels, inner)
    shown = [trace for trace in traces if trace.get("showlegend", True) and trace.get("name")]
    rows = len(shown) if found.get("showlegend", len(shown) > 1) else 0
    foot = 58
    if bar := found.get("coloraxis", {}).get("colorbar"):
        across = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -foot / inner, "yanchor": "top", "len": 1}
        bar.update(across | {"thickness": 10, "title": {**_title(bar.get("title")), "side": "top"}})
        foot += _BAR
    if rows:
        found["legend"] = {**found.get("legend", {}), "orientation": "v", "x": 0, "y": -foot / inner, "yanchor": "top"}
        foot += _ROW * rows + 8
    found["margin"] = {"l": 58, "r": 18, "t": _TOP, "b": foot}
    found["height"] = inner + _TOP + foot
    for name, axis in found.items():
        if re.fullmatch(r"[xy]axis\d*", name) and axis.get("title"):
            title = _title(axis["title"])
            lines = textwrap.wrap(title.get("text", ""), _LETTERS, break_long_words=False)
            axis["title"] = {**title, "text": "<br>".join(lines), "standoff": 6}
            axis["automargin"] = True
    return _merged(found, found.pop("meta", None) or {})


def _merged(layout: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """With what the figure itself asks for on a narrow screen, its layout's ``meta``."""
    for name, value in own.items():
        layout[name] = _merged(dict(layout.get(name) or {}), value) if isinstance(value, Mapping) else value
    return layout


def _panels(layout: Mapping[str, Any]) -> list[str]:
    """Numbers of the axes' pairs, as in ``xaxis2``: "" for the first."""
    return [name.removeprefix("xaxis") for name in layout if name.startswith("xaxis")] or [""]


def _stack(layout: dict[str, Any], panels: Sequence[str], inner: float) -> None:
    """Put the panels, and the titles of them, below each other."""
    titles = [note for note in layout.get("annotations", ()) if note.get("xref") == note.get("yref") == "paper"]
    words = layout["yaxis"].get("title")
    for place, number in enumerate(panels):
        top = 1 - place * (_PANEL + _GAP) / inner
        for name, domain in ((f"xaxis{number}", [0, 1]), (f"yaxis{number}", [top - _PANEL / inner, top])):
            axis = layout.setdefault(name, {})
            axis.update(domain=[max(domain[0], 0.0), domain[1]], showticklabels=True)
        if words and not layout[f"yaxis{number}"].get("title"):
            layout[f"yaxis{number}"]["title"] = words
        if place < len(titles):
            titles[place].update(x=0, xanchor="left", y=top, yanchor="bottom")


def _title(title: Any) -> dict[str, Any]:
    return {"text": title} if isinstance(title, str) else dict(title or {})


def _plain(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text)
