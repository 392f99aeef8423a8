"""Writing answers and complaints: data to standard output, everything else to standard error."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from simtrain.errors import Problem, WrongInput

PIPE_WIDTH = 160
"""Columns when standard output is not a terminal."""
PATIENCE = 1.0
"""Seconds before a progress bar appears."""


def console() -> Console:
    """Standard output; colour only on a terminal that wants it."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def report(error: WrongInput) -> None:
    """Every problem with its hint, on standard error."""
    out = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    for problem in error.problems:
        out.print("error:", style="bold red", end=" ")
        out.print(str(problem))
        if problem.hint:
            out.print(f"  hint: {problem.hint}")


def print_json(document: dict[str, Any]) -> None:
    """One JSON document."""
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def check_writable(path: Path | None) -> list[Problem]:
    """What would keep `path` from being written, found before any work is done."""
    if path is None:
        return []
    folder = path.parent
    if path.is_dir():
        return [Problem("--out", str(path), "is a folder", "name a file in it")]
    if not folder.is_dir():
        return [Problem("--out", str(path), "lies in a folder that does not exist", f"create {folder}")]
    if not os.access(path if path.exists() else folder, os.W_OK):
        return [Problem("--out", str(path), "cannot be written")]
    return []


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write the whole document or nothing."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(document, file, indent=1, allow_nan=False)
            file.write("\n")
        Path(file.name).replace(path)
    except OSError as error:
        raise WrongInput([Problem("--out", str(path), f"cannot be written: {error.strerror}")]) from None


@contextmanager
def progress(what: str) -> Iterator[Any]:
    """A bar on standard error that shows once the work takes over a second; yields `update(done, all)`."""
    import time

    bar = Progress(
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(what, total=None)
    start = time.monotonic()

    def update(done: int, everything: int) -> None:
        if not bar.live.is_started and time.monotonic() - start > PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=everything)

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()
