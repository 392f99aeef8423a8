"""A step whose passes may each run at one of several clocks: what the frontier is found for."""

from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import TopologicalSorter

import numpy as np
from numpy.typing import NDArray

from simtrain.price.curve import Curve
from simtrain.timeline.compiled import compiled
from simtrain.timeline.graph import Graph
from simtrain.timeline.order import NONE, Index

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tradeoff:
    """A graph, and the curve every operation runs on.

    A group of operations shares one clock. Joules are those of one device a rank, beyond `standing` watts of the whole
    step, which are drawn as long as it lasts.
    """

    graph: Graph
    fixed: Array
    """Seconds of every operation that no clock changes, shape (operations,)."""
    curve: Index
    """Number of every operation's curve, NONE where all of it is fixed."""
    part: Array
    """Share of a pass that an operation is: passes run in pieces where traffic moves in buckets."""
    curves: tuple[Curve, ...]
    """Options of a pass: clocks worth it, fastest first (see price.curve)."""
    group: Index
    """Which operations share a clock, NONE where there is none to choose.

    Curves of one group have the same clocks; the linear programme (search.deadline) wants one curve a group.
    """
    standing: float
    ends: Index
    """The last operation of every rank."""
    begins: Array
    """Seconds before which no rank's step begins, shape (ranks,)."""

    @cached_property
    def of_group(self) -> Index:
        """Curve of every group, shape (groups,)."""
        found = np.zeros(int(self.group.max()) + 1, dtype=np.int64)
        chosen = self.group != NONE
        found[self.group[chosen]] = self.curve[chosen]
        return found

    @cached_property
    def passes(self) -> Array:
        """Passes a group has, shape (groups,)."""
        chosen = self.group != NONE
        return np.asarray(np.bincount(self.group[chosen], self.part[chosen], len(self.of_group)), float)

    @cached_property
    def options(self) -> tuple[Array, Array, Index]:
        """Seconds and joules of every clock of a curve, and how many there are, shape (curves, most clocks)."""
        return table(self.curves)

    @cached_property
    def before(self) -> Index:
        """Operations each one follows, that before it in its stream first, shape (operations, 1 + needs)."""
        previous = np.arange(len(self.graph)) - 1
        previous[self.graph.first[:-1][np.diff(self.graph.first) > 0]] = NONE
        return np.column_stack([previous, self.graph.needs])

    @cached_property
    def turns(self) -> Index:
        """Operations in an order in which none precedes what it follows."""
        follows = {at: [b for b in row if b != NONE] for at, row in enumerate(self.before.tolist())}
        return np.fromiter(TopologicalSorter(follows).static_order(), np.int64, len(follows))

    def seconds(self, choice: Index) -> Array:
        """Of every operation with option `choice` of every group."""
        chosen = self.group != NONE
        found = self.fixed.copy()
        group = self.group[chosen]
        found[chosen] += self.part[chosen] * self.options[0][self.curve[chosen], choice[group]]
        return found

    def duration(self, seconds: Array) -> float:
        """Of the step, operations taking `seconds`."""
        return float(length(self.turns, self.before, seconds, self.ends, self.begins))

    def joules(self, choice: Index, duration: float) -> float:
        """Of a step that lasts `duration`."""
        chosen = self.group != NONE
        each = self.options[1][self.curve[chosen], choice[self.group[chosen]]]
        return float(self.part[chosen] @ each) + self.standing * duration

    @property
    def fastest(self) -> Index:
        """The first option of every group."""
        return np.zeros(len(self.of_group), dtype=np.int64)

    @property
    def thriftiest(self) -> Index:
        """The last option of every group."""
        return self.options[2][self.of_group] - 1

    def grouped(self, group: Index) -> "Tradeoff":
        """The same with fewer clocks to choose."""
        return replace(self, group=group)


def table(curves: tuple[Curve, ...]) -> tuple[Array, Array, Index]:
    """Seconds and joules of curves, shape (curves, most clocks), and how many clocks each has."""
    count = np.array([len(curve) for curve in curves])
    seconds, joules = (np.zeros((len(count), int(count.max()))) for _ in range(2))
    for row, curve in enumerate(curves):
        seconds[row, : count[row]], joules[row, : count[row]] = curve.seconds, curve.joules
    return seconds, joules, count


@compiled
def length(turns: Index, before: Index, seconds: Array, ends: Index, begins: Array) -> float:
    """Seconds of a step whose operations take `seconds`; the rest as in Tradeoff."""
    end = np.zeros(len(seconds))
    for operation in turns:
        at = 0.0
        for k in range(before.shape[1]):
            needed = before[operation, k]
            if needed >= 0 and end[needed] > at:
                at = end[needed]
        end[operation] = at + seconds[operation]
    longest = 0.0
    for rank in range(len(ends)):
        longest = max(longest, end[ends[rank]] - begins[rank])
    return longest
