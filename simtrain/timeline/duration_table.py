"""Seconds of passes given by the user instead of priced ones: another clock, a measurement, a what-if.

CSV with a header: stage, phase, seconds, and if wanted chunk and microbatch; a cell that is empty stands for all. Where
rows overlap, one that names the microbatch goes before one that names the chunk, and that before the rest. The clocks
that `simtrain energy --csv` writes are such a table: rows with a `place` are parts of passes and add up, clocks are not
read.
"""

import csv
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.timeline.order import LETTERS, NONE, PHASES, Order

Array = NDArray[np.float64]
NEEDED: Final = ("stage", "phase", "seconds")
KNOWN: Final = ("stage", "chunk", "phase", "microbatch", "seconds", "place", "clock_mhz")
MOST: Final = 20
"""Mistakes that are named one by one."""
Row = tuple[int, int, int, int, float, int]
"""Stage, chunk, phase, microbatch, seconds, and its line; NONE stands for all chunks or microbatches."""


@dataclass(frozen=True)
class Durations:
    """The rows of a table."""

    name: str
    rows: tuple[Row, ...]

    def of(self, order: Order) -> Array:
        """Seconds of an order's passes, shape (phases, stages, chunks, microbatches); nan where none are given.

        WrongInput with every row that no pass of the order is named by.
        """
        stages, chunks = order.place.shape
        there = np.zeros((len(PHASES), stages, chunks, order.microbatches), dtype=bool)
        valid = order.phase != NONE
        on = np.broadcast_to(np.arange(stages)[:, None], order.phase.shape)[valid]
        there[order.phase[valid], on, order.chunk[valid], order.microbatch[valid]] = True
        found = np.full(there.shape, np.nan)
        problems = []
        for stage, chunk, phase, microbatch, seconds, line in sorted(self.rows, key=_precedence):
            at = (phase, stage, *(slice(None) if one == NONE else one for one in (chunk, microbatch)))
            if stage >= stages or chunk >= chunks or microbatch >= order.microbatches or not there[at].any():
                problems.append(Problem(f"{self.name}: line {line}", None, "names no pass of this step", _of(there)))
            else:
                found[at] = seconds
        _refused(problems, self.name)
        return found


def _precedence(row: Row) -> tuple[bool, bool]:
    """Rows that go before others come later."""
    _, chunk, _, microbatch, _, _ = row
    return microbatch != NONE, chunk != NONE


def duration_table(text: str, name: str) -> Durations:
    """The durations a CSV table states; WrongInput with every cell that cannot be read and every row that repeats."""
    try:
        header, *lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines())] or [[]]
    except csv.Error as error:
        raise WrongInput([Problem(name, None, f"is not valid CSV: {error}")]) from None
    problems = _mistitled(header, name)
    _refused(problems, name)
    seen: dict[tuple[int, ...], int] = {}
    rows: list[Row] = []
    parts: dict[int, float] = {}
    for number, cells in enumerate(lines, 2):
        where = f"{name}: line {number}"
        if len(cells) != len(header) and any(cells):
            problems.append(Problem(where, None, f"has {len(cells)} cells, the header {len(header)}"))
        elif any(cells):
            before = len(problems)
            row = _row(dict(zip(header, cells, strict=True)), where, problems)
            if len(problems) == before and row[:4] in seen and "place" not in header:
                problems.append(Problem(where, None, f"repeats line {seen[row[:4]]}", "keep one of them"))
            first = seen.setdefault(row[:4], number)
            parts[first] = parts.get(first, 0.0) + row[4]
            rows += [(*row, number)] if first == number else []
    if not rows and not problems:
        problems.append(Problem(name, None, "holds no row", "e.g. 0,forward,,0.0125"))
    _refused(problems, name)
    return Durations(name, tuple((*row[:4], parts[row[5]], row[5]) for row in rows))


def _mistitled(header: list[str], name: str) -> list[Problem]:
    """What is wrong with the first line."""
    problems = [
        Problem(f"{name}: column", title, "is not known", nearest(title, KNOWN))
        for title in header
        if title not in KNOWN
    ]
    problems += [Problem(f"{name}: column", title, "stands there twice") for title in KNOWN if header.count(title) > 1]
    missing = [title for title in NEEDED if title not in header]
    if missing:
        hint = "begin with a line like stage,phase,microbatch,seconds"
        problems.append(Problem(name, None, f"has no column {', '.join(missing)}", hint))
    return problems


def _row(cell: dict[str, str], where: str, problems: list[Problem]) -> tuple[int, int, int, int, float]:
    """One row; what cannot be read is added to `problems`."""
    stage = _number(cell["stage"], f"{where}, stage", False, problems)
    chunk, microbatch = (
        _number(cell.get(title, ""), f"{where}, {title}", True, problems) for title in ("chunk", "microbatch")
    )
    phase, text = cell["phase"], cell["seconds"]
    known = (*PHASES, *LETTERS)
    if phase not in known:
        problems.append(Problem(f"{where}, phase", phase, "is not a phase", nearest(phase, known)))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        problems.append(Problem(f"{where}, seconds", text, "must be seconds from 0", "e.g. 0.0125"))
    kind = known.index(phase) % len(PHASES) if phase in known else NONE
    return stage, chunk, kind, microbatch, seconds


def _number(text: str, where: str, every: bool, problems: list[Problem]) -> int:
    """A whole number; NONE where `every` may be meant and nothing is written."""
    if every and not text:
        return NONE
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        hint = "leave it empty for all" if every else ""
        problems.append(Problem(where, text, "must be a whole number from 0", hint))
        return NONE
    return int(text)


def _of(there: NDArray[np.bool_]) -> str:
    """What there is to name."""
    phases = [PHASES[phase] for phase in np.flatnonzero(there.any(axis=(1, 2, 3)))]
    _, stages, chunks, microbatches = there.shape
    return (
        f"its stages are 0 to {stages - 1}, chunks 0 to {chunks - 1}, microbatches 0 to {microbatches - 1}, "
        f"phases {', '.join(phases)}"
    )


def _refused(problems: list[Problem], name: str) -> None:
    """Raise WrongInput with the first MOST of them, if any."""
    if len(problems) > MOST:
        problems = [*problems[:MOST], Problem(name, None, f"has {len(problems) - MOST:,} more mistakes of this kind")]
    if problems:
        raise WrongInput(problems)
