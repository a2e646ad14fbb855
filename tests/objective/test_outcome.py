"""What a trial came to, as plain JSON values."""

import json
import math

from ssdtune.objective.outcome import Outcome


def test_notes_that_are_not_finite_are_recorded_as_json():
    values = Outcome({"retain_ssim": 0.5}, notes={"predicted_retain_second": math.inf, "step_length": 2.0}).values()
    assert values["predicted_retain_second"] is None and values["step_length"] == 2.0
    json.dumps(values, allow_nan=False)
