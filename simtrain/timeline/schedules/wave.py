"""Hanayo (arXiv 2308.15762): 2W chunks a stage that run down and up the stages in W waves.

List scheduling: the stage that can start something first does, under a limit of held activations.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simtrain.timeline.order import Order, folded
from simtrain.timeline.schedules.pace import Pace

NOT, PHASE, ALL = range(3)


def order(stages: int, chunks: int, microbatches: int, pace: Pace) -> Order:
    """The shortest found to fit `pace`, a chunk's; a stage holds p microbatches, as the first does under 1F1B."""
    return searched(stages, chunks, microbatches, pace)[0]


def searched(stages: int, chunks: int, microbatches: int, pace: Pace) -> tuple[Order, float]:
    """The same with the seconds it takes."""
    place = folded(stages, chunks)
    both = pace.backward + pace.weight
    found = [
        _search(place, microbatches, chunks * stages, pace.forward, both, pace.hop, forward_first, deep_first, queued)
        for forward_first in (True, False)
        for deep_first in (True, False)
        for queued in (NOT, PHASE, ALL)
    ]
    table, length = min(found, key=lambda one: one[1])
    return Order(table[..., 0], table[..., 1], table[..., 2], place), length


@njit(cache=True)
def _search(
    place: NDArray[np.int64],
    m: int,
    limit: int,
    forward: float,
    backward: float,
    hop: float,
    forward_first: bool,
    deep_first: bool,
    queued: int,
) -> tuple[NDArray[np.int64], float]:
    """One order, shape (stages, actions, 3), and when its last action ends.

    Of actions that could start at once a stage takes forward or backward passes first, of the deepest chunk or of the
    shallowest; `queued`: rather what came first, of one phase or of all. A chunk is begun only while the later chunks
    of its microbatch still have room.
    """
    p, v = place.shape
    ends = p * v
    stage_of = np.empty(ends, np.int64)
    for s in range(p):
        for c in range(v):
            stage_of[place[s, c]] = s
    ready = np.full((2, ends, m), np.inf)
    ready[0, 0, :] = 0.0
    begun = np.zeros((2, p, v), np.int64)
    free, held, count = np.zeros(p), np.zeros(p, np.int64), np.zeros(p, np.int64)
    table = np.full((p, 2 * v * m, 3), -1, np.int64)
    start, chunk, phase = np.full(p, np.inf), np.zeros(p, np.int64), np.zeros(p, np.int64)
    stale = np.ones(p, np.bool_)
    for _ in range(p * 2 * v * m):
        chosen = 0
        for s in range(p):
            if stale[s]:
                stale[s] = False
                start[s], last = np.inf, np.inf
                for turn in range(2):
                    kind = turn if forward_first else 1 - turn
                    for k in range(v):
                        c = v - 1 - k if deep_first else k
                        i = begun[kind, s, c]
                        if kind == 0 and (i == m or held[s] + v - c > limit):
                            continue
                        if kind == 1 and i == begun[0, s, c]:
                            continue
                        came = ready[kind, place[s, c], i]
                        at = max(came, free[s])
                        sooner = came < last and (queued == ALL or (queued == PHASE and kind == phase[s]))
                        if at < start[s] or (at == start[s] and sooner):
                            start[s], chunk[s], phase[s], last = at, c, kind, came
            if start[s] < start[chosen]:
                chosen = s
        s, c, kind = chosen, chunk[chosen], phase[chosen]
        i, where = begun[kind, s, c], place[s, c]
        begun[kind, s, c] += 1
        free[s] = start[s] + (backward if kind == 1 else forward)
        held[s] += 1 - 2 * kind
        onward = where + 1 - 2 * kind
        if kind == 0 and onward == ends:
            ready[1, where, i] = free[s]
        elif onward >= 0:
            t = stage_of[onward]
            ready[kind, onward, i] = free[s] + (hop if t != s else 0.0)
            stale[t] = True
        stale[s] = True
        table[s, count[s], 0], table[s, count[s], 1], table[s, count[s], 2] = c, i, kind
        count[s] += 1
    return table, free.max()
