"""The house style of every figure: colours, fonts, sizes, for Plotly and matplotlib.

Colours are those of Okabe & Ito (2008), which stay apart for every common kind of colour blindness; sequential maps are
Cividis (Nuñez et al., PLoS ONE 2018), which reads the same with and without colour vision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axis import Axis

INK, QUIET, MUTED, GRID, PAPER = "#1f2933", "#5f6c7b", "#cfd5dc", "#e4e7eb", "#ffffff"
BLUE, RED, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, CYAN, BROWN, GREY = "#e69f00", "#56b4e9", "#8c6a4f", "#8693a0"
SERIES = (BLUE, RED, GREEN, PURPLE, ORANGE, CYAN, BROWN, GREY)
FORGET, RETAIN = RED, BLUE
SEQUENTIAL = "cividis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
TEXT_SIZE, TITLE_SIZE = 13, 16
AXIS = {
    "zeroline": False,
    "showline": True,
    "ticks": "outside",
    "gridcolor": GRID,
    "linecolor": QUIET,
    "tickcolor": QUIET,
}


def polish(figure: go.Figure, title: str, height: int = 440) -> go.Figure:
    """Give a Plotly figure (with or without subplots) the house style, in place."""
    figure.update_layout(house_layout(title, height))
    figure.update_xaxes(**AXIS)
    figure.update_yaxes(**AXIS)
    return figure


def house_layout(title: str, height: int) -> dict[str, Any]:
    """The house style as Plotly layout settings, without the axes'."""
    return {
        "template": "none",
        "title": {"text": title, "x": 0, "xref": "paper", "xanchor": "left", "font": {"size": TITLE_SIZE}},
        "font": {"family": FONT, "size": TEXT_SIZE, "color": INK},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "margin": {"l": 76, "r": 28, "t": 64, "b": 64},
        "legend": {"bgcolor": "rgba(255,255,255,0.8)", "bordercolor": GRID, "borderwidth": 1},
        "hovermode": "closest",
        "height": height,
    }


def matplotlib_settings() -> dict[str, Any]:
    """The house style as matplotlib rc settings, for ``matplotlib.rc_context``."""
    from cycler import cycler

    return {
        "figure.facecolor": PAPER,
        "figure.dpi": 150,
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": QUIET,
        "axes.facecolor": PAPER,
        "axes.grid": True,
        "axes.labelcolor": INK,
        "axes.prop_cycle": cycler(color=SERIES),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "legend.edgecolor": GRID,
        "legend.framealpha": 0.9,
        "legend.fontsize": 9,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "image.cmap": SEQUENTIAL,
    }


def few_numbers(axis: Axis) -> None:
    """A few plain numbers on matplotlib's log axis in place of powers of ten, however few decades there are."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")
