"""The time-energy frontier of a step: least energy for every length, and clocks that reach it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.search.deadline import Deadline
from simtrain.search.rounding import SLACK, Point, Rounder, spent
from simtrain.search.tradeoff import Tradeoff

Array = NDArray[np.float64]
TOLERANCE: Final = 1e-3
"""Relative error of the frontier between its points."""


@dataclass(frozen=True)
class Frontier:
    """From the shortest step to that of the thriftiest clocks; what is slower only waits longer."""

    tradeoff: Tradeoff
    points: tuple[Point, ...]
    """By deadline; none slower and no less thirsty than another."""
    deadline: Array
    bound: Array
    """Least joules at every deadline, shape (solves,)."""
    slope: Array
    """Watts saved with a longer step, negative, shape (solves,)."""
    solver: Deadline

    def least(self, seconds: float | Array) -> Array:
        """A bound no clocks can beat at that length: the highest of all tangents."""
        at = np.atleast_1d(np.asarray(seconds, float))
        return np.asarray((self.bound + self.slope * (at[:, None] - self.deadline)).max(axis=1))

    def gap(self, point: Point) -> float:
        """How far a point is above the bound at its own length, relative."""
        return point.joules / float(self.least(point.seconds)[0]) - 1

    def at(self, deadline: float) -> Point:
        """The point of least energy that meets a deadline. It must not lie before the first."""
        return min((p for p in self.points if p.seconds <= deadline * (1 + SLACK)), key=lambda p: p.joules)

    def within(self, deadline: float, waits: bool = False) -> Point:
        """Like `at`, but solved for just this deadline, and polished; with `waits` waiting until it counts too."""
        rounder = Rounder(self.tradeoff)
        fresh = rounder.polished(rounder.point(deadline, self.solver.solve(deadline * (1 + SLACK))[2]))
        until = deadline if waits else None
        return min((fresh, self.at(deadline)), key=lambda p: spent(p, self.tradeoff.standing, until))

    @property
    def thriftiest(self) -> Point:
        """The point of least energy: T* of Perseus (arXiv 2312.06902)."""
        return min(self.points, key=lambda p: p.joules)


def frontier(tradeoff: Tradeoff, tolerance: float = TOLERANCE, besides: tuple[float, ...] = ()) -> Frontier:
    """All of it, to a relative `tolerance`: tangents of solved deadlines meet where the next is solved.

    `besides`: deadlines (s) solved whatever the tolerance.
    """
    solver = Deadline(tradeoff)
    first = tradeoff.duration(tradeoff.seconds(tradeoff.fastest))
    last = tradeoff.duration(tradeoff.seconds(tradeoff.thriftiest))
    solved = {at: solver.solve(at * (1 + SLACK)) for at in (first, last)}
    open_ = [(first, last)]
    while open_:
        low, high = open_.pop()
        (joules, slope, _), (joules_high, slope_high, _) = solved[low], solved[high]
        if high <= low or slope_high <= slope:
            continue
        meet = (joules_high - joules + slope * low - slope_high * high) / (slope - slope_high)
        chord = joules + (joules_high - joules) * (meet - low) / (high - low)
        if not low < meet < high or chord - (joules + slope * (meet - low)) < tolerance * chord:
            continue
        solved[meet] = solver.solve(meet)
        open_ += [(low, meet), (meet, high)]
    solved |= {at: solver.solve(at) for at in besides if first < at < last}
    deadlines = np.array(sorted(solved))
    rounder = Rounder(tradeoff)
    points = [rounder.point(at, solved[at][2]) for at in deadlines.tolist()]
    bound, slopes = (np.array([solved[at][k] for at in deadlines.tolist()]) for k in (0, 1))
    return Frontier(tradeoff, undominated(points), deadlines, bound, slopes, solver)


def undominated(points: list[Point]) -> tuple[Point, ...]:
    """The points no other beats in both time and energy, fastest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.seconds, p.joules)):
        if not kept or point.joules < kept[-1].joules:
            kept.append(point)
    return tuple(kept)
