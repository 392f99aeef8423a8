"""From durations that a deadline allows to clocks that can be set."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.search.polish import Passes, polish
from simtrain.search.tradeoff import Tradeoff, length
from simtrain.timeline.compiled import compiled
from simtrain.timeline.order import NONE, Index

Array = NDArray[np.float64]
SLACK: Final = 1e-9
"""Share of a duration that solvers may be off by."""


@dataclass(frozen=True)
class Point:
    """Clocks of one deadline, as they can be set."""

    deadline: float
    seconds: float
    """What the step takes with these clocks, never more than the deadline."""
    joules: float
    """Of one device a rank, all ranks."""
    choice: Index
    """Option of every group."""


def spent(point: Point, standing: float, until: float | None) -> float:
    """Joules of a point; with those of waiting `until` s at `standing` W where given."""
    return point.joules + (0.0 if until is None else standing * (until - point.seconds))


class Rounder:
    """From durations to clocks that can be set: the next faster ones, then slack is filled while the deadline holds."""

    def __init__(self, tradeoff: Tradeoff):
        self.tradeoff = tradeoff
        seconds, joules, _ = tradeoff.options
        chosen = np.flatnonzero(tradeoff.group != NONE)
        self._members = chosen[np.argsort(tradeoff.group[chosen], kind="stable")]
        self._first = np.searchsorted(tradeoff.group[self._members], np.arange(len(tradeoff.of_group) + 1))
        self._steps = np.diff(seconds, axis=1, prepend=0.0)
        self._drops = tradeoff.passes[:, None] * np.diff(joules[tradeoff.of_group], axis=1, prepend=0.0)

    def point(self, deadline: float, wanted: Array) -> Point:
        """Clocks for `wanted` seconds of a pass of every group, shape (groups,)."""
        tradeoff = self.tradeoff
        seconds, count = tradeoff.options[0][tradeoff.of_group], tradeoff.options[2][tradeoff.of_group]
        there = np.arange(seconds.shape[1]) < count[:, None]
        choice = ((seconds <= wanted[:, None] * (1 + SLACK)) & there).sum(axis=1) - 1
        choice = np.maximum(choice, 0)
        following = np.minimum(choice + 1, count - 1)
        order = np.argsort(np.take_along_axis(self._drops, following[:, None], axis=1)[:, 0], kind="stable")
        durations = tradeoff.seconds(choice)
        fill(
            tradeoff.turns,
            tradeoff.before,
            durations,
            tradeoff.ends,
            tradeoff.begins,
            self._members,
            self._first,
            tradeoff.part,
            tradeoff.curve,
            self._steps,
            order,
            choice,
            count,
            deadline * (1 + SLACK),
        )
        return self._point(deadline, choice)

    def polished(self, point: Point) -> Point:
        """Clocks no exchange betters (search.polish), devices waiting until the deadline.

        The same point where groups are more than an operation.
        """
        tradeoff = self.tradeoff
        if len(self._members) > len(tradeoff.of_group):
            return point
        part = tradeoff.part[self._members][:, None]
        seconds, joules = (part * of[tradeoff.of_group] for of in tradeoff.options[:2])
        passes = Passes(
            tradeoff.turns,
            tradeoff.before,
            tradeoff.ends,
            tradeoff.begins,
            self._members,
            seconds,
            joules,
            tradeoff.options[2][tradeoff.of_group],
            point.deadline * (1 + SLACK),
        )
        return self._point(point.deadline, polish(passes, point.choice, tradeoff.seconds(point.choice)))

    def _point(self, deadline: float, choice: Index) -> Point:
        seconds = self.tradeoff.duration(self.tradeoff.seconds(choice))
        return Point(deadline, seconds, self.tradeoff.joules(choice, seconds), choice)


@compiled
def fill(
    turns: Index,
    before: Index,
    seconds: Array,
    ends: Index,
    begins: Array,
    members: Index,
    first: Index,
    part: Array,
    curve: Index,
    steps: Array,
    order: Index,
    choice: Index,
    count: Index,
    deadline: float,
) -> None:
    """Slow groups down, an option at a time in `order`, as long as the step meets its deadline; changes `choice`.

    `members[first[g] : first[g + 1]]`: operations of group g; `steps`: seconds a curve's options take more than the one
    before, shape (curves, most clocks); `count`: options a group has.
    """
    moved = True
    closed = np.zeros(len(choice), np.bool_)
    while moved:
        moved = False
        for group in order:
            if closed[group] or choice[group] + 1 >= count[group]:
                continue
            option = choice[group] + 1
            for k in range(first[group], first[group + 1]):
                seconds[members[k]] += part[members[k]] * steps[curve[members[k]], option]
            if length(turns, before, seconds, ends, begins) <= deadline:
                choice[group] += 1
                moved = True
            else:
                closed[group] = True
                for k in range(first[group], first[group + 1]):
                    seconds[members[k]] -= part[members[k]] * steps[curve[members[k]], option]
