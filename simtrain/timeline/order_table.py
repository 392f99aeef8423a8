"""An order given by the user: a table of actions, a row a stage, in the order the stage runs them.

CSV is the format of `_load_csv` and `_dump_csv` in torch.distributed.pipelining; JSON is a list of such rows. A cell
is a chunk's position, a phase's letter and a microbatch, e.g. 3F0; an empty one is a stage idling.
"""

import csv
import json
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from simtrain.errors import Problem, WrongInput
from simtrain.timeline.order import LETTERS, Order, joined, mistakes

ACTION: Final = re.compile(rf"([0-9]{{1,9}})([{LETTERS}])([0-9]{{1,9}})")
AT_ONCE: Final = re.compile(r"\((.*)\)OVERLAP_F_B")
"""Passes that PyTorch runs at once; here one stands after the other."""
IMPLIED: Final = re.compile(r"[0-9]{1,9}(UNSHARD|RESHARD|REDUCE_GRAD|(SEND|RECV)_[FB][0-9]{1,9})")
"""Communication that PyTorch writes between the passes; the costs say what there is of it."""
MOST: Final = 20
"""Mistakes that are named one by one."""
Row = list[tuple[int, int, int]]
"""Position, phase and microbatch of a stage's actions."""


def order_table(text: str, name: str) -> Order:
    """The order a table states: JSON where its `name` ends in .json, else CSV.

    Raises WrongInput with every cell that cannot be read; else with every action that is misplaced; else with every one
    that is missing or repeated.
    """
    problems: list[Problem] = []
    rows = []
    table: Sequence[Sequence[object]] = _json(text, name) if name.lower().endswith(".json") else _csv(text, name)
    for number, cells in enumerate(table, 1):
        row: Row = []
        for column, cell in enumerate(cells, 1):
            read = _actions("" if cell is None else str(cell))
            if read is None:
                rule = f"must be a chunk's position, one of {', '.join(LETTERS)}, and a microbatch"
                problems.append(
                    Problem(f"{name}: row {number}, column {column}", cell, rule, "e.g. 3F0; empty where it idles")
                )
            row += read or []
        rows.append(row)
    problems = problems or _misplaced(rows, name)
    if len(problems) > MOST:
        problems = [*problems[:MOST], Problem(name, None, f"has {len(problems) - MOST:,} more mistakes of this kind")]
    if problems:
        raise WrongInput(problems)
    order = _ordered(rows)
    found = mistakes(order)
    if found:
        more = [f"has {len(found) - MOST:,} more mistakes of this kind"] if len(found) > MOST else []
        raise WrongInput(Problem(name, None, mistake) for mistake in [*found[:MOST], *more])
    return order


def _csv(text: str, name: str) -> list[list[str]]:
    """Rows that are not blank."""
    try:
        return [row for row in csv.reader(text.splitlines()) if row]
    except csv.Error as error:
        raise WrongInput([Problem(name, None, f"is not valid CSV: {error}")]) from None


def _json(text: str, name: str) -> list[list[object]]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongInput([Problem(name, None, f"is not valid JSON: {error}")]) from None
    if not isinstance(table, list) or not all(isinstance(row, list) for row in table):
        rule = "must be a list of stages, each a list of actions"
        raise WrongInput([Problem(name, None, rule, 'e.g. [["0F0", "0B0"], ["1F0", "1B0"]]')])
    return table


def _actions(cell: str) -> Row | None:
    """What a cell holds; None where it cannot be read."""
    text = cell.replace(" ", "")
    at_once = AT_ONCE.fullmatch(text)
    parts = at_once[1].split(";") if at_once else [text]
    found = [ACTION.fullmatch(part) for part in parts if part and not IMPLIED.fullmatch(part)]
    read = [(int(match[1]), LETTERS.index(match[2]), int(match[3])) for match in found if match]
    return read if len(read) == len(found) else None


def _misplaced(rows: list[Row], name: str) -> list[Problem]:
    """What keeps a table from being one of stages with as many chunks each, counted through as microbatches are."""
    if not any(rows):
        return [Problem(name, None, "holds no action", "a row a stage, a cell an action: 0F0,0F1,0B0,0B1")]
    problems = [
        Problem(f"{name}: row {number}", None, "holds no action", "leave the row out")
        for number, row in enumerate(rows, 1)
        if not row
    ]
    holds: dict[int, set[int]] = {}
    for number, row in enumerate(rows, 1):
        for position, _, _ in row:
            holds.setdefault(position, set()).add(number)
    problems += [
        Problem(f"{name}: position", position, f"stands in rows {', '.join(map(str, sorted(on)))}: one stage holds it")
        for position, on in sorted(holds.items())
        if len(on) > 1
    ]
    for what, numbers in (("position", {*holds}), ("microbatch", {action[2] for row in rows for action in row})):
        gap = min({*range(len(numbers) + 1)} - numbers)
        if gap < len(numbers):
            problems.append(Problem(f"{name}: {what}", gap, f"is missing, and {what} {max(numbers)} is there"))
    chunks = [len({action[0] for action in row}) for row in rows]
    if not problems and len({*chunks}) > 1:
        problems.append(Problem(f"{name}: chunks", chunks, "must be as many on every stage"))
    return problems


def _ordered(rows: list[Row]) -> Order:
    """A stage's chunks are counted in the order of their positions."""
    place = np.array([sorted({position for position, _, _ in row}) for row in rows])
    return joined(
        [
            np.array([(np.searchsorted(held, position), microbatch, phase) for position, phase, microbatch in row])
            for row, held in zip(rows, place, strict=True)
        ],
        place,
    )
