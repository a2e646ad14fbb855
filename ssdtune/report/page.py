"""One self-contained HTML page from plain blocks: text, commands, tables, Plotly figures, pictures. Loads nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

import ssdtune
from ssdtune.files import atomic_path


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Command:
    """Lines to type."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of values. Columns of numbers, and those in ``numeric``, are right-aligned; ``summary`` folds the table."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    summary: str = ""
    numeric: Sequence[int] = ()

    @property
    def cells(self) -> list[list[str]]:
        return [[cell_text(value) for value in row] for row in self.rows]

    @property
    def right(self) -> set[int]:
        """Places of the columns to align right."""
        columns = enumerate(zip(*self.rows, strict=True))
        return {*self.numeric, *(place for place, column in columns if all(_is_number(value) for value in column))}


@dataclass(frozen=True)
class Plot:
    """A Plotly figure; ``name`` is its HTML id."""

    kind: ClassVar[str] = "plot"
    name: str
    figure: go.Figure
    caption: str = ""

    @property
    def html(self) -> Markup:
        config = {"displaylogo": False, "responsive": True}
        # the JSON is Plotly's own, escaped for scripts; ids are ours
        return Markup(self.figure.to_html(full_html=False, include_plotlyjs=False, div_id=self.name, config=config))


@dataclass(frozen=True)
class Image:
    """A picture's file (PNG, SVG, WebP), embedded."""

    kind: ClassVar[str] = "image"
    path: Path
    caption: str

    @property
    def data_url(self) -> str:
        kind = {".svg": "svg+xml"}.get(self.path.suffix, self.path.suffix[1:])
        return f"data:image/{kind};base64,{base64.b64encode(self.path.read_bytes()).decode()}"


Block = Text | Command | Table | Plot | Image


@dataclass(frozen=True)
class Section:
    """A heading and the blocks under it."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Tile:
    """One number large at the head of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """``kind`` is the small line over the title, ``lead`` the finding in a sentence or two."""

    kind: str
    title: str
    lead: str
    sections: Sequence[Section]
    tiles: Sequence[Tile] = field(default_factory=tuple)


def render(page: Page) -> str:
    """The page as HTML; plotly.js is inlined once if there is a figure."""
    loader = PackageLoader("ssdtune.report")
    blank: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **blank)
    has_plot = any(isinstance(block, Plot) for section in page.sections for block in section.blocks)
    css, _, _ = loader.get_source(environment, "page.css")
    return environment.get_template("page.html.jinja").render(
        page=page,
        css=Markup(css),
        plotly=Markup(get_plotlyjs()) if has_plot else "",
        version=ssdtune.__version__,
    )


def write_page(page: Page, path: Path | str) -> Path:
    """Write the page whole or not at all. Raises DataError: ``path`` cannot be written."""
    html = render(page)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def cell_text(value: object) -> str:
    """A value as shown in a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "not finite" if not math.isfinite(value) else f"{value:.4g}"
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
