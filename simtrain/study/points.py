"""The points of a sweep: every combination of the values some fields of a request take."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Final

from simtrain import units
from simtrain.errors import Problem, WrongInput, nearest
from simtrain.spec.job import Job
from simtrain.spec.request import Request

COUNTS: Final = ("gpus", "seq", "global_batch", "tokens", "adapter_rank")
FIELDS: Final = tuple(field.name for field in fields(Request))
MOST: Final = 100_000
"""Points of one sweep."""


@dataclass(frozen=True)
class Point:
    """One combination: what was set, and the job it makes."""

    settings: dict[str, str]
    job: Job


def axis(text: str) -> tuple[str, tuple[str, ...]]:
    """Field and values of `gpus=64..4096` (each twice the one before) or `cluster=dgx-a100,dgx-h100`.

    Raises WrongInput where the field is unknown or a value missing.
    """
    written, equals, given = text.partition("=")
    name = written.strip().replace("-", "_")
    values = [value.strip() for value in given.split(",")]
    if not equals or not all(values):
        raise WrongInput([Problem("--vary", text, "names no values", "write it like gpus=64..4096 or seq=4k,8k")])
    if name not in FIELDS:
        raise WrongInput([Problem("--vary", text, f"{written!r} is not known", nearest(name, FIELDS))])
    found = [each for value in values for each in (_doubled(text, name, value) if ".." in value else [value])]
    return name, tuple(dict.fromkeys(found))


def points(base: Request, axes: Sequence[tuple[str, Iterable[str]]]) -> list[Point]:
    """Every combination, the last axis fastest; WrongInput with what is wrong with any of them."""
    names = [name for name, _ in axes]
    problems = [
        Problem("--vary", name, "is varied twice", "name all its values in one --vary")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    problems += [Problem("--vary", name, "is not known", nearest(name, FIELDS)) for name in names if name not in FIELDS]
    axes = [(name, tuple(values)) for name, values in axes]
    problems += [
        Problem("--vary", name, "names no values", "write it like gpus=64..4096") for name, values in axes if not values
    ]
    combined = list(product(*(tuple(values) for _, values in axes)))
    if len(combined) > MOST:
        problems.append(Problem("--vary", f"{len(combined):,} points", f"are more than {MOST:,}"))
    if problems:
        raise WrongInput(problems)
    found = []
    for values in combined:
        settings = dict(zip(names, values, strict=True))
        try:
            found.append(Point(settings, base.overridden_by(Request(**settings)).job()))
        except WrongInput as wrong:
            problems += [problem for problem in wrong.problems if problem not in problems]
    if problems:
        raise WrongInput(problems)
    return found


def _doubled(text: str, name: str, value: str) -> list[str]:
    """`64..4096` as 64, 128, ... 4096."""
    low, _, high = value.partition("..")
    try:
        first, last = (units.parse_count(end, binary_k=name == "seq") for end in (low, high))
    except ValueError:
        first = last = 0
    if name not in COUNTS or first < 1:
        raise WrongInput([Problem("--vary", text, "a range has two whole numbers", "write it like gpus=64..4096")])
    if first > last:
        raise WrongInput([Problem("--vary", text, "runs backwards", f"write {name}={high}..{low}")])
    found = [str(first)]
    while int(found[-1]) * 2 <= last:
        found.append(str(int(found[-1]) * 2))
    return found
