"""Recorded tasks that also know how they respond to fine-tuning, whose best rate follows a unit of their own."""

from dataclasses import replace

import numpy as np

from ssdtune.prior.experience import Response


def with_responses(record, seed):
    """Fine-tuning that is best at a third of the task's own unit of the rate, 10 steps or more."""
    rng = np.random.default_rng([seed, 3])
    unit = 10 ** rng.uniform(-2.5, -1.5)
    lr, steps = 10 ** rng.uniform(-1, 1, 24), rng.integers(4, 21, 24).astype(float)
    away = np.log10(lr / 30 / unit / 0.33)
    retained = 1 - 0.3 * np.maximum(away - 0.2, 0)
    remembered = np.clip(0.9 - 0.06 * steps + 1.2 * np.maximum(-away, 0), 0, 1)
    measures = {"retain_ssim": 0.8 * retained, "forget_ssim": 0.6 + 0.3 * remembered}
    response = Response({"lr": lr, "steps": steps}, measures, np.full(24, 30.0), {})
    scales = {"rate_unit": unit, "parameters": 900.0, "gradient_ratio": 1.0}
    return replace(record, responses={"ft": response}, scales=scales)
