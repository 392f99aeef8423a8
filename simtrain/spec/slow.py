"""Devices that are slower than they should be, as people write them: stage=3:1.2, replica=1,stage=0:1.1, rank=17:2."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from simtrain.errors import Problem, WrongInput, nearest

PLACES: Final = ("stage", "replica", "rank")
LARGEST: Final = 1000.0
EXAMPLE: Final = "e.g. stage=3:1.2 or replica=1,stage=0:1.1 or rank=17:2"


@dataclass(frozen=True)
class Slow:
    """Passes at a place take `factor` times as long; what is None is every one.

    A rank's whole tensor and context group runs at its pace.
    """

    text: str
    """As it was written."""
    factor: float
    stage: int | None = None
    replica: int | None = None
    """Of the data-parallel replicas."""
    rank: int | None = None
    """Of the job, in the order of Plan; stage and replica are then those it is of."""


def slows(texts: Iterable[str]) -> tuple[Slow, ...]:
    """Read several; WrongInput with everything that is wrong with any."""
    problems, found = list[Problem](), list[Slow]()
    for text in texts:
        try:
            found.append(slow(text))
        except WrongInput as wrong:
            problems.extend(wrong.problems)
    if problems:
        raise WrongInput(problems)
    return tuple(found)


def slow(text: str) -> Slow:
    """Read one; WrongInput with everything that is wrong with it."""
    where, colon, factor = text.rpartition(":")
    if not colon:
        raise WrongInput([Problem("--slow", text, "must be a place, a colon and a factor", EXAMPLE)])
    problems = []
    places: dict[str, int] = {}
    for part in where.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        if name not in PLACES:
            problems.append(Problem("--slow", text, f"{name!r} is not a place", nearest(name, PLACES)))
        elif name in places:
            problems.append(Problem("--slow", text, f"names its {name} twice", "write two options"))
        elif not re.fullmatch("[0-9]{1,9}", number):
            problems.append(Problem("--slow", text, f"{name} must be a whole number from 0", EXAMPLE))
        else:
            places[name] = int(number)
    if "rank" in places and len(places) > 1:
        problems.append(Problem("--slow", text, "a rank is of one stage and replica", "name it alone"))
    try:
        times = float(factor)
    except ValueError:
        times = math.nan
    if not 0 < times <= LARGEST:
        rule = f"the factor must be above 0 and at most {LARGEST:g}: how many times as long passes take"
        problems.append(Problem("--slow", text, rule, EXAMPLE))
    if problems:
        raise WrongInput(problems)
    return Slow(text, times, **places)
