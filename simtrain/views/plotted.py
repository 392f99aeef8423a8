"""Plots as self-contained pages."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simtrain.errors import Problem, WrongInput


def plotted(path: Path) -> list[Problem]:
    """What would keep a plot from being written to `path`, found before any work is done."""
    problems = []
    if find_spec("plotly") is None:
        hint = "install it with: pip install 'simtrain[html]'"
        problems.append(Problem("--html", str(path), "needs plotly, which is not installed", hint))
    if path.is_dir() or not path.parent.is_dir():
        problems.append(Problem("--html", str(path), "is not a file in an existing folder"))
    return problems


def write_page(path: Path, figure: Any) -> None:
    """Write a plotly figure with all it needs; WrongInput where `path` cannot be written."""
    try:
        figure.write_html(path, include_plotlyjs=True)
    except OSError as error:
        raise WrongInput([Problem("--html", str(path), f"cannot be written: {error.strerror}")]) from None
