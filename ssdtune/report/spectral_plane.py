"""Damage planes of the spectral update, beside those of SSD."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ssdtune.fisher.response import SampleSpace
from ssdtune.report.spectrum import colour_range, log_axis
from ssdtune.report.style import SEQUENTIAL, polish

RETAIN_WEIGHT = 3.6  # as in the method's careful start
SPECTRAL_TEXT = (
    "Loss change that one spectral step of length eta |θ| makes in either set, first and second order, as gradients of "
    f"the untouched model predict it, in the diagonal metric at w_r = {RETAIN_WEIGHT:g}. The darkest part includes all "
    "where the loss falls. Long steps leave the region where this holds."
)


def spectral_figure(space: SampleSpace, points: int = 64) -> go.Figure:
    """Predicted loss change of both sets over (mu, eta), side by side on one colour scale of log10."""
    mu, eta = np.geomspace(1e-3, 10.0, points), np.geomspace(1e-3, 1.0, points)
    damage = space.plane(mu, eta, RETAIN_WEIGHT)
    changes = {
        "retain": damage.retain_first + damage.retain_second,
        "forget": damage.forget_first + damage.forget_second,
    }
    maps = {name: np.log10(np.maximum(change.T, 1e-30)) for name, change in changes.items()}
    low, high = colour_range(*maps.values())
    figure = make_subplots(
        1, 2, subplot_titles=[f"{name} set" for name in maps], horizontal_spacing=0.09, shared_yaxes=True
    )
    polish(figure, "Predicted loss change of a spectral step", 460)
    for column, (name, values) in enumerate(maps.items(), start=1):
        figure.add_heatmap(
            x=mu,
            y=eta,
            z=values.astype(np.float32),
            customdata=changes[name].T.astype(np.float32),
            coloraxis="coloraxis",
            hovertemplate="mu %{x:.3g}, eta %{y:.3g}<br>loss change %{customdata:.3g}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_xaxes(title="damping mu", showgrid=False, **log_axis(mu))
    figure.update_yaxes(showgrid=False, **log_axis(eta))
    figure.update_yaxes(title="length eta", row=1, col=1)
    bar = {"title": {"text": "log10 loss +"}, "thickness": 14}
    figure.update_layout(coloraxis={"colorscale": SEQUENTIAL, "cmin": low, "cmax": high, "colorbar": bar})
    return figure
