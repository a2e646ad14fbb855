"""One self-contained HTML page from plain blocks: text, tables, Plotly figures, pictures. Loads nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import ssdtune
from ssdtune.files import atomic_path
from ssdtune.report.embed import embedded, packed
from ssdtune.report.narrow import narrow_layout, title_apart

PLOTLY = "plotly-cartesian.min.js"
"""From npm's plotly.js-cartesian-dist-min, as it is there."""

_TOP, _PANEL_TITLE = 34, 24  # pixels over a chart, for the toolbar and for titles of panels


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
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
    """A Plotly figure; ``name`` is its HTML id. Its title and what follows a line break there are text of the page."""

    kind: ClassVar[str] = "plot"
    name: str
    figure: go.Figure
    caption: str = ""

    @property
    def heading(self) -> str:
        return title_apart(self.figure)[0]

    @property
    def note(self) -> str:
        return " ".join(filter(None, (title_apart(self.figure)[1], self.caption)))

    @property
    def drawing(self) -> Markup:
        """JSON of the figure's data and of its layouts for wide and for narrow screens, fit for a script element."""
        wide = json.loads(self.figure.to_json())
        wide["layout"].pop("title", None)
        panels = any(note.get("yref") == "paper" for note in wide["layout"].get("annotations", ()))
        top = _TOP + (_PANEL_TITLE if panels else 0)
        wide["layout"]["margin"] = {**wide["layout"].get("margin", {}), "t": top}
        text = json.dumps({**wide, "narrow": narrow_layout(wide["layout"], wide["data"])})
        return Markup(text.replace("<", "\\u003c"))  # a "</script>" would end the element


@dataclass(frozen=True)
class Image:
    """A picture's file (PNG, SVG, WebP), embedded; ``narrow`` takes its place on a narrow screen."""

    kind: ClassVar[str] = "image"
    path: Path
    caption: str
    narrow: Path | None = None


@dataclass(frozen=True)
class Pair:
    """Pictures beside each other where there is room, else below each other."""

    kind: ClassVar[str] = "pair"
    images: Sequence[Image]
    caption: str


Block = Text | Table | Plot | Image | Pair


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
    """A page opens with its answer: ``lead`` is what was found, ``judgement`` if that is good, ``commands`` what next.

    ``kind`` is the small line over the title.
    """

    kind: str
    title: str
    lead: str
    sections: Sequence[Section]
    tiles: Sequence[Tile] = field(default_factory=tuple)
    judgement: Sequence[str] = ()
    commands: Sequence[str] = ()


def render(page: Page) -> str:
    """The page as HTML; plotly.js (its cartesian bundle, a third of it all) is in it, packed, if there is a figure."""
    loader = PackageLoader("ssdtune.report")
    blank: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, **blank)
    environment.filters["breakable"] = breakable
    blocks = [block for section in page.sections for block in section.blocks]
    has_plot = any(isinstance(block, Plot) for block in blocks)
    images = [each for block in blocks for each in _images(block)]
    css, _, _ = loader.get_source(environment, "page.css")
    plotly, _, _ = loader.get_source(environment, PLOTLY) if has_plot else ("", None, None)
    script, _, _ = loader.get_source(environment, "page.js")
    return environment.get_template("page.html.jinja").render(
        page=page,
        css=Markup(css),
        plotly=packed(plotly) if plotly else "",
        pictures=embedded(path for image in images for path in (image.path, image.narrow) if path is not None),
        script=Markup(script),
        version=ssdtune.__version__,
    )


def write_page(page: Page, path: Path | str) -> Path:
    """Write the page whole or not at all. Raises DataError: ``path`` cannot be written."""
    html = render(page)
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def breakable(text: str) -> Markup:
    """Text that may be broken after an underscore, where a narrow screen has no room for long names."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def _images(block: Block) -> Sequence[Image]:
    if isinstance(block, Pair):
        return block.images
    return [block] if isinstance(block, Image) else []


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
