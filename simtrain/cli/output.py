"""Writing answers and complaints: data to standard output, everything else to standard error."""

import gzip
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from simtrain.errors import Problem, WrongInput

PIPE_WIDTH = 1000
"""Columns when standard output is not a terminal: enough that no line wraps."""
PATIENCE = 1.0
"""Seconds before a progress bar appears."""
FAST = 1
"""Level of compression: the usual 6 takes four times as long to save a fifth of the size."""


class _Unpadded:
    """Standard output without the blanks that fill a table's lines."""

    encoding = property(lambda self: sys.stdout.encoding)

    def write(self, text: str) -> int:
        return sys.stdout.write(re.sub(" +(?=\n)", "", text))

    def flush(self) -> None:
        sys.stdout.flush()


def console() -> Console:
    """Standard output: colour only on a terminal that wants it, as wide as the terminal or COLUMNS says."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    file = None if sys.stdout.isatty() else cast(IO[str], _Unpadded())
    return Console(highlight=False, markup=False, emoji=False, width=width, file=file)


def report(error: WrongInput) -> None:
    """Every problem with its hint, on standard error."""
    out = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
    for problem in error.problems:
        out.print("error:", style="bold red", end=" ")
        out.print(str(problem))
        if problem.hint:
            out.print(f"  hint: {problem.hint}")


def print_json(document: dict[str, Any]) -> None:
    """One JSON document."""
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def note(text: str) -> None:
    """A remark on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False).print(text)


def check_writable(
    path: Path | None,
    example: str = "plan.json",
    instead: str = "--json prints to standard output",
    flag: str = "--out",
) -> list[Problem]:
    """What would keep `path` from being written, found before any work is done.

    `example`: name of such a file; `instead`: what to do if it is a device; `flag`: that names it.
    """
    if path is None:
        return []
    folder = path.parent
    if path.is_dir():
        return [Problem(flag, str(path), "is a folder", f"name a file in it, e.g. {path / example}")]
    if path.exists() and not path.is_file():
        return [Problem(flag, str(path), "is not an ordinary file", instead)]
    if not folder.is_dir():
        return [Problem(flag, str(path), f"lies in {folder}, which is not a folder", f"mkdir -p {folder}")]
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return [Problem(flag, str(path), "cannot be written: permission denied", "name a file in a folder of yours")]
    return []


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write the whole document or nothing; links are followed."""
    with _whole(path) as file:
        json.dump(document, file, indent=1, allow_nan=False)
        file.write("\n")


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write a text that comes in pieces, the whole or nothing; compressed where the name ends in .gz. Links are
    followed."""
    with _whole(path, compressed=path.suffix == ".gz") as file:
        file.writelines(pieces)


@contextmanager
def _whole(path: Path, compressed: bool = False) -> Iterator[IO[str]]:
    """A file that takes the place of `path` once all is written; WrongInput where it cannot be."""
    path = Path(os.path.realpath(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with (
            gzip.open(part, "xt", compresslevel=FAST, encoding="utf-8")
            if compressed
            else part.open("x", encoding="utf-8")
        ) as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise WrongInput([Problem("--out", str(path), f"cannot be written: {error.strerror}")]) from None
    finally:
        part.unlink(missing_ok=True)


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
        disable=not sys.stderr.isatty(),
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
