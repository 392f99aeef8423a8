"""The what-if notebooks run, and end with what was measured beside what is predicted."""

import importlib.util
import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


def test_there_are_six() -> None:
    assert len(NOTEBOOKS) == 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path) -> None:
    pytest.importorskip("marimo")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="marimo|starlette|asyncio")
        _, defined = notebook.app.run()
    errors = [abs(row["predicted_s"] / row["measured_s"] - 1) for row in defined["runs"]]
    assert sorted(errors)[len(errors) // 2] < 0.25
