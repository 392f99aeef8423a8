"""The linear programme of least energy within a deadline; its basis stays warm from one deadline to the next.

Variables: when every operation starts, the step's length T, and how far each group moves along each segment of its
curve. A row an edge: the follower starts after the operation, whose seconds are its shortest and the segments' sum.
Curves are convex, so segments fill in order. (Kelley 1961, "Critical-path planning and scheduling: mathematical
basis", doi 10.1287/opre.9.3.296; Perseus, arXiv 2312.06902, solves it by cuts on a grid of durations.)
"""

import highspy
import numpy as np
from numpy.typing import NDArray

from simtrain.search.program import Silent
from simtrain.search.tradeoff import Tradeoff, table
from simtrain.timeline.order import NONE

Array = NDArray[np.float64]


class Deadline:
    """Least energy of a trade-off as a function of the step's length."""

    def __init__(self, tradeoff: Tradeoff):
        self.tradeoff = tradeoff
        self.solves = 0
        count = len(tradeoff.graph)
        seconds, joules, options = table(tuple(curve.hull() for curve in tradeoff.curves))
        width, drop = np.diff(seconds, axis=1), np.diff(joules, axis=1)
        segments = np.maximum(options - 1, 0)[tradeoff.of_group]
        self._first = count + 1 + np.concatenate([[0], np.cumsum(segments)])
        self._least = float(tradeoff.passes @ joules[tradeoff.of_group, 0])
        group = np.repeat(np.arange(len(segments)), segments)
        place = np.arange(len(group)) - (self._first[group] - count - 1)
        curve = tradeoff.of_group[group]
        self._length = count
        slope = drop[curve, place] / width[curve, place]
        free = np.full(count + 1, highspy.kHighsInf)
        lp = highspy.HighsLp()
        lp.num_col_ = count + 1 + len(group)
        lp.col_cost_ = np.concatenate([np.zeros(count + 1), tradeoff.passes[group] * slope])
        lp.col_lower_ = np.zeros(lp.num_col_)
        lp.col_upper_ = np.concatenate([free, width[curve, place]])
        self._add_rows(lp)
        self._solver = Silent()  # type: ignore[no-untyped-call]
        self._solver.setOptionValue("output_flag", False)
        self._solver.setOptionValue("threads", 1)
        self._solver.passModel(lp)

    def _add_rows(self, lp: highspy.HighsLp) -> None:
        tradeoff, length = self.tradeoff, self._length
        after, need = np.nonzero(tradeoff.before != NONE)
        edges = np.unique(np.column_stack([tradeoff.before[after, need], after]), axis=0)
        source = np.concatenate([edges[:, 0], tradeoff.ends])
        target = np.concatenate([edges[:, 1], np.full(len(tradeoff.ends), length)])
        shortest = tradeoff.seconds(tradeoff.fastest)
        bound = shortest[source]
        bound[len(edges) :] -= tradeoff.begins
        group = np.maximum(tradeoff.group[source], 0)
        segments = np.where(tradeoff.group[source] == NONE, 0, self._first[group + 1] - self._first[group])
        start = np.concatenate([[0], np.cumsum(2 + segments)])
        index = np.empty(start[-1], dtype=np.int64)
        value = np.repeat(-tradeoff.part[source], 2 + segments)
        index[start[:-1]], value[start[:-1]] = target, 1.0
        index[start[:-1] + 1], value[start[:-1] + 1] = source, -1.0
        row = np.repeat(np.arange(len(source)), segments)
        place = np.arange(len(row)) - np.repeat(np.cumsum(segments) - segments, segments)
        index[start[row] + 2 + place] = self._first[group[row]] + place
        lp.num_row_ = len(source)
        lp.row_lower_ = bound
        lp.row_upper_ = np.full(len(source), highspy.kHighsInf)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = start, index, value

    def solve(self, deadline: float) -> tuple[float, float, Array]:
        """Joules of a step of that length, their slope in it (W), and the seconds of a pass of every group."""
        self._solver.changeColBounds(self._length, 0.0, deadline)
        self._solver.run()
        self.solves += 1
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(f"no optimum at {deadline} s: {self._solver.getModelStatus()}")
        solution = self._solver.getSolution()
        moved = np.array(solution.col_value)[self._length + 1 :]
        starts = self._first - self._length - 1
        total = np.concatenate([[0.0], np.cumsum(moved)])
        fastest = self.tradeoff.options[0][self.tradeoff.of_group, 0]
        joules = self._least + self._solver.getInfo().objective_function_value + self.tradeoff.standing * deadline
        slope = solution.col_dual[self._length] + self.tradeoff.standing
        return joules, slope, fastest + total[starts[1:]] - total[starts[:-1]]
