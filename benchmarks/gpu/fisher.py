"""The Fisher analysis of the paper's VarNet."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.fisher.gpu import varnet_analysis
from ssdtune.mri.networks.stock import VarNetSizes

if TYPE_CHECKING:
    from benchmarks.gpu.parts import Step

TINY = VarNetSizes(cascades=1, channels=4, pools=2, sens_channels=4, sens_pools=2)


def steps(options: argparse.Namespace) -> Iterator[Step]:
    on_gpu = options.device.startswith("cuda")
    n, size, sizes = (16 if options.quick else 48, 256, VarNetSizes()) if on_gpu else (3, 32, TINY)
    yield "analyse", lambda: varnet_analysis(n, size, sizes, options).items()
