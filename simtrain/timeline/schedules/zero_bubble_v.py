"""ZB-V (arXiv 2401.10241 section 6): two chunks a stage in a V, weight gradients apart, p microbatches held."""

import numpy as np

from simtrain.timeline.order import FORWARD, INPUT, Index, Order, folded, joined
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.schedules.weights import filled

DOWN, UP = 0, 1


def order(stages: int, chunks: int, microbatches: int, pace: Pace) -> Order:
    """The paper's order of forward and input-gradient passes; weight gradients fitted to `pace`, a chunk's."""
    rows = [_row(stages, stage, microbatches) for stage in range(stages)]
    return filled([joined(rows, folded(stages, chunks))], chunks * stages, pace)


def _row(stages: int, stage: int, microbatches: int) -> Index:
    """Forward passes of the way down until the first comes up again, then of both ways, then each with a gradient."""
    turns = [(DOWN, FORWARD)] * (2 * (stages - stage) - 1)
    turns += [(UP, FORWARD), (DOWN, FORWARD)] * stage
    turns += [(UP, FORWARD), (UP, INPUT)] * (stages - stage)
    turns += [(DOWN, FORWARD), (DOWN, INPUT), (UP, FORWARD), (UP, INPUT)] * microbatches
    place = np.array(turns)
    rows = np.empty((len(turns), 3), dtype=np.int64)
    kept = np.zeros(len(turns), dtype=bool)
    for turn in {*turns}:
        where = np.flatnonzero((place == turn).all(axis=1))
        rows[where] = np.stack([place[where, 0], np.arange(len(where)), place[where, 1]], axis=1)
        kept[where[:microbatches]] = True
    return rows[kept]
