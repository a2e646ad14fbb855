"""Where in the network the Fisher information lies, from parameter names: by stage, by third of the depth, by path.

Stages are those of fastMRI's models: the sensitivity net and each cascade of a VarNet, and within every U-Net its down
path, bottleneck and up path. Models with other names are cut into thirds by the order of their layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ssdtune.fisher.layout import Layout

SENSITIVITY = "sensitivity net"
THIRDS = ("first third", "middle third", "last third")
PATHS = ("down path", "bottleneck", "up path")

_CASCADE = re.compile(r"(?:^|\.)cascades\.(\d+)\.")
# module names of fastMRI's U-Net (fastmri/models/unet.py)
_PATH = {
    "down path": re.compile(r"(?:^|\.)down_sample_layers\."),
    "bottleneck": re.compile(r"(?:^|\.)conv\.layers\."),
    "up path": re.compile(r"(?:^|\.)up_(?:transpose_)?conv\."),
}


def stages(names: Sequence[str]) -> list[str]:
    """The stage of each named parameter: ``sensitivity net``, ``cascade 1``..., or a third of the depth.

    Cascades are counted from 1. In a model without cascades, a third holds a third of its layers (modules that own
    parameters), in model order.
    """
    if any(_CASCADE.search(name) for name in names):
        return [_varnet_stage(name) for name in names]
    return _thirds_of_layers(names)


def thirds(names: Sequence[str]) -> list[str]:
    """The third of the depth (or the sensitivity net) of each named parameter, whatever the number of cascades."""
    found = [_CASCADE.search(name) for name in names]
    last = max((int(match[1]) for match in found if match), default=-1)
    if last < 0:
        return _thirds_of_layers(names)
    return [_third(int(match[1]), last + 1) if match else SENSITIVITY for match in found]


def paths(names: Sequence[str]) -> list[str]:
    """``down path``, ``bottleneck`` or ``up path`` of each parameter; ``""`` outside every U-Net."""
    return [next((path for path, rule in _PATH.items() if rule.search(name)), "") for name in names]


def shares(layout: Layout, groups: Sequence[str], diagonal: NDArray[np.floating]) -> dict[str, float]:
    """Each group's share of a Fisher trace, in order of first appearance; all 0 for an all-zero ``diagonal`` (P,).

    groups : of each parameter.
    """
    sums = {
        group: sum(float(diagonal[place].sum(dtype=np.float64)) for place in places)
        for group, places in layout.groups(groups).items()
    }
    total = sum(sums.values())
    return {group: value / total if total > 0 else 0.0 for group, value in sums.items()}


def stage_shares(layout: Layout, diagonal: NDArray[np.floating]) -> dict[str, float]:
    """The share of each stage (sensitivity net, every cascade; or thirds) in a Fisher trace."""
    return shares(layout, stages(layout.names), diagonal)


def profile(layout: Layout, diagonal: NDArray[np.floating]) -> Mapping[str, float]:
    """Shares in a fixed set of groups: sensitivity net, three thirds, three paths; 0 for a group that is not there."""
    fixed = dict.fromkeys((SENSITIVITY, *THIRDS, *PATHS), 0.0)
    by_path = shares(layout, paths(layout.names), diagonal)
    by_path.pop("", None)
    return fixed | shares(layout, thirds(layout.names), diagonal) | by_path


def _varnet_stage(name: str) -> str:
    match = _CASCADE.search(name)
    return f"cascade {int(match[1]) + 1}" if match else SENSITIVITY


def _thirds_of_layers(names: Sequence[str]) -> list[str]:
    owners = [name.rpartition(".")[0] for name in names]
    place = {owner: number for number, owner in enumerate(dict.fromkeys(owners))}
    return [_third(place[owner], len(place)) for owner in owners]


def _third(place: int, total: int) -> str:
    """By the middle of the stretch: one alone is the middle, two are first and last."""
    return THIRDS[int(3 * (place + 0.5) / total)]
