"""The notebook runs from top to bottom, as it is in the documentation."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "half_hour.ipynb"


def test_it_runs_and_forgets(tmp_path, monkeypatch):
    """A minute: it trains a network, which is what it is about."""
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    retained = float(printed.partition("retained   ")[2].split()[0])
    remembered = float(printed.partition("remembered ")[2].split()[0])
    assert retained >= 0.95 and remembered < 0.5
    assert any("image/png" in out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", []))
    assert not any(out.output_type == "error" for cell in notebook.cells for out in cell.get("outputs", []))
