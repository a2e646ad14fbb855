"""The notebook: it runs, smaller, from top to bottom, and is shown as ``make docs`` ran it, which takes a minute."""

import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pytest

CELLS = json.loads((Path(__file__).parents[1] / "docs" / "half_hour.ipynb").read_text())["cells"]
SMALLER = {
    "subjects=10": "subjects=3",
    "subjects=4": "subjects=1",
    '"slices": 3': '"slices": 2',
    "epochs = 30": "epochs = 1",
    "cascades = 2": "cascades = 1",
    'name = "mine"': 'name = "mine"\n[score]\nfloor = 0.0\nmin_retained = 0.0',
    "trials=12": "trials=2",
}
"""Its own words, and what stands in their place here: fewer scans and trials, a model that has hardly learned."""

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


@pytest.mark.filterwarnings("ignore")
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    source = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code")
    for words, fewer in SMALLER.items():
        assert source.count(words) == 1, words
        source = source.replace(words, fewer)
    monkeypatch.chdir(tmp_path)  # it goes to a folder of its own
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plt.switch_backend("agg")
    verbosity = optuna.logging.get_verbosity()
    try:
        exec(compile(source, "half_hour.ipynb", "exec"), {"__name__": "__main__"})
    finally:
        optuna.logging.set_verbosity(verbosity)
        plt.close("all")
    assert "KiB" in capsys.readouterr().out
    assert list(tmp_path.glob("*/half_hour/unlearned.ckpt"))
