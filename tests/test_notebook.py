"""The notebook as it is shown: whole, and what it says it found. ``make docs`` runs it, which takes a minute."""

import json
from pathlib import Path

CELLS = json.loads((Path(__file__).parents[1] / "docs" / "half_hour.ipynb").read_text())["cells"]
OUTPUTS = [output for cell in CELLS for output in cell.get("outputs", [])]


def test_its_outputs_are_of_one_run_from_top_to_bottom():
    counts = [cell["execution_count"] for cell in CELLS if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert {output["output_type"] for output in OUTPUTS} == {"stream", "display_data"}
    assert not [output for output in OUTPUTS if output.get("name") == "stderr"]


def test_it_forgets_and_shows_so():
    printed = "".join("".join(output.get("text", "")) for output in OUTPUTS)
    lines = [line.split() for line in printed.splitlines() if line.startswith(("retained ", "remembered "))]
    found = {name: float(value) for name, value in lines}
    assert found["retained"] >= 0.95 and found["remembered"] < 0.5
    assert any("image/png" in output.get("data", {}) for output in OUTPUTS)
