"""docs/lesson.ipynb runs from top to bottom, and prints what stands in it."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT

NOTEBOOK = ROOT / "docs/lesson.ipynb"


def texts(notebook: Any) -> dict[str, str]:
    """What the cells print whose output is the same on every machine, by cell."""
    return {
        cell.id: "".join(output.get("text") or output.data["text/plain"] for output in cell.outputs)
        for cell in notebook.cells
        if "same" in cell.metadata.get("tags", ())
    }


@pytest.mark.real_data
@pytest.mark.slow(minutes=2)
def test_notebook_runs_and_prints_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs make setup-extras")
    nbclient = pytest.importorskip("nbclient", reason="needs make setup-extras")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # as if it were installed: the notebook does not lie in a clone
    kept, new = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    nbclient.NotebookClient(new, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert texts(new) == texts(kept)
    assert "2.8087" in str(texts(kept))
    assert "32,998" in str(texts(kept))


def test_notebook_holds_its_figures_and_stays_small() -> None:
    assert NOTEBOOK.stat().st_size < 400_000
    assert NOTEBOOK.read_text().count('"image/png"') == 3
