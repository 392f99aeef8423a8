"""Reading what nccl-tests printed (github.com/NVIDIA/nccl-tests), so that nobody measures twice.

A data line is: size (B), count, type, redop, root, then out-of-place time (us), algbw, busbw, wrong, and the same in
place. The program's name stands in a "# Collective test starting: NAME_perf" line of newer versions, else in the
file's name. Ranks are counted by their "#  Rank  0 ..." lines.
"""

import csv
import re
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem, WrongInput

PROGRAMS: Final = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "alltoall",
    "sendrecv": "point_to_point",
}
COLUMNS: Final = ("collective", "gpus", "bytes", "time_s", "low_s", "high_s")
_NAMED: Final = re.compile(r"(all_reduce|all_gather|reduce_scatter|alltoall|sendrecv)(?:_perf)?")
_RANK: Final = re.compile(r"^#\s+Rank\s+(\d+)\s", re.MULTILINE)
_LINE: Final = re.compile(r"^\s*(\d+)\s+\d+\s+\w+\s+\w+\s+-?\d+\s+([\d.]+)\s", re.MULTILINE)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of collective.csv from one output; WrongInput where it is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error.strerror}")]) from None
    named = (
        re.search(r"Collective test starting:\s*(\w+?)_perf", text) or _NAMED.search(path.name) or _NAMED.search(text)
    )
    ranks = len(set(_RANK.findall(text)))
    lines = [(int(size), float(seconds) / 1e6) for size, seconds in _LINE.findall(text) if int(size) > 0]
    problems = []
    if named is None or named.group(1) not in PROGRAMS:
        known = ", ".join(PROGRAMS)
        problems.append(
            Problem(str(path), None, "does not say which collective it is of", f"name it after one: {known}")
        )
    if ranks < 2:
        problems.append(Problem(str(path), None, "lists fewer than two ranks ('#  Rank  0 ...' lines)"))
    if not lines:
        problems.append(Problem(str(path), None, "holds no line of nccl-tests"))
    if problems or named is None:
        raise WrongInput(problems)
    collective = PROGRAMS[named.group(1)]
    return [
        {"collective": collective, "gpus": ranks, "bytes": size}
        | {"time_s": seconds, "low_s": seconds, "high_s": seconds}
        for size, seconds in lines
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The table with these rows instead of the measured ones of the same collectives."""
    brought = {row["collective"] for row in rows}
    kept: list[dict[str, Any]] = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            kept = [row for row in csv.DictReader(file) if row["collective"] not in brought]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([*kept, *rows])
