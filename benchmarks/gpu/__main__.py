"""What the networks, the Fisher analysis and a study take on a GPU.

All of it in under 8 minutes, each part in a process of its own that is stopped at its limit; a measurement that fails,
and a part that is stopped, is a row that says so, and the rest stays. Everything is float32 with TF32 off but what is
called bfloat16 (the U-Nets alone; FFTs and data consistency stay float32).

`varnet_{320,256}px.*`: the paper's VarNet (12 cascades, 18 channels, 4 pools, 8 channels for the sensitivities; 15
coils), untrained, on random k-space, in slices a second. `plain`: fastMRI's network, a slice at a time. `evaluator`: as
studies run and measure it, in batches of `batch_size`; `bfloat16.evaluator` the same, whose images differ by
`bfloat16.image_rel_diff` (largest |difference| over largest value). `{float32,bfloat16}.{plainly,channels_last,
compiled}_slices_s`: its networks' output alone, each also as a CUDA graph (`_graph`), in which copying parameters and
slices is left out; `compiled_ready_s` is the first compiled run. `{flops,bandwidth}_share`: of the measured rates of a
large product and a large copy (`peak_*`), the bandwidth that of one write and one read of every convolution's output.
`train.*`: a training step at batch 1. `fisher.*`: the Fisher analysis of the same VarNet on 4-coil slices of 256 x 256;
`matrix_rate_share` as in `benchmarks.fisher`. `study.*`: a study of 12 TPE trials on a small trained VarNet, 128 pixels
a side, the plain way and as it ships, see `benchmarks.trial_cost`; `bfloat16_s`: such a study in `--precision
bfloat16`, `bfloat16_taken`: whether its check let it, `bfloat16_score`: of its choice, evaluated the plain way.
`failures`: rows without a figure. `--device cpu` tries all of it out on tiny networks, whose figures say nothing.
"""

from __future__ import annotations

import argparse

from benchmarks.gpu.parts import PARTS, Row, run_parts
from benchmarks.harness import Metrics, add_only, main, show, table

TEXT: list[str] = []


def measure(options: argparse.Namespace) -> Metrics:
    if options.publish and not options.device.startswith("cuda"):
        raise SystemExit("figures of a CPU say nothing about a GPU: --publish needs --device cuda")
    rows = run_parts({name: PARTS[name].seconds for name in options.only or PARTS}, options)
    TEXT.extend(table(("metric", "value"), [(name, _shown(value)) for name, value in rows]))
    return metrics_of(rows)


def metrics_of(rows: list[Row]) -> Metrics:
    """The figures alone, and how many rows have none."""
    found: Metrics = {name: value for name, value in rows if isinstance(value, float)}
    return found | {"failures": float(len(rows) - len(found))}


def _shown(value: float | str) -> str:
    return value.replace("|", "/") if isinstance(value, str) else show(value)


def extend(parser: argparse.ArgumentParser) -> None:
    add_only(parser, PARTS)


if __name__ == "__main__":
    main(__doc__ or "", measure, extend, TEXT)
