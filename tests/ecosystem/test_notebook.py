"""The notebook of the examples, run by a kernel as a reader would run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # the kernel's client has warnings of its own
]

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


def outputs_of(cell: Any) -> list[tuple[str, list[str]]]:
    """Return the kinds of a cell's outputs, with the formats that each has."""
    return [(each.output_type, sorted(each.get("data", {}))) for each in cell.outputs]


def test_the_notebook_runs_and_shows_what_it_shows() -> None:
    """Every cell ends well, writes nothing to stderr, and has outputs like those in the file."""
    kept = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.from_dict(kept)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    nbclient.NotebookClient(fresh, timeout=200, kernel_name="python3").execute()
    code = [(a, b) for a, b in zip(kept.cells, fresh.cells, strict=True) if a.cell_type == "code"]
    for before, after in code:
        assert outputs_of(after) == outputs_of(before), after.source
    text = str([cell.outputs for _, cell in code])
    assert "2,000 of 2,000" in text
    assert "model_unavailable: no provider serves this model id" in text
    assert "stderr" not in text


def test_the_file_holds_no_path_of_a_machine() -> None:
    """What was executed once is shown to everybody."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    for word in ("/home/", "/opt/", "/root", "/tmp/", "site-packages", "Users\\\\"):
        assert word not in text
