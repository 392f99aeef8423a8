"""Weight gradients put where a stage would idle, or where memory must be freed (arXiv 2401.10241 section 3.1)."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.compiled import compiled
from simtrain.timeline.order import Index, Order
from simtrain.timeline.schedules.pace import Pace

PATIENCE: Final = (0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Idle time, in weight passes, from which one of them fills it: all are tried."""
EQUAL: Final = 1e-9
"""Relative difference of lengths that are the same."""
BY_PLACE: Final = -1.0
"""Tried besides: a stage owes as many as stages stand before it, and pays at once what is more (ZB-H1)."""


def filled(orders: Iterable[Order], limit: int, pace: Pace) -> Order:
    """The shortest of `orders`, of forward and input-gradient passes, once weight gradients are put in between; of
    equally short ones that which ends first.

    `limit`: chunks of a microbatch whose activations a stage may hold; `pace`: a chunk's.
    """
    best, shortest, soonest = None, np.inf, np.inf
    for order in orders:
        rows = np.stack([order.chunk, order.microbatch, order.phase], axis=-1)
        for patience in (BY_PLACE, *PATIENCE):
            table, length, end = _fill(
                rows, order.place, order.microbatches, float(limit), pace.forward, pace.backward, pace.weight, pace.hop,
                pace.waiting, patience,
            )  # fmt: skip
            shorter, sooner = length < shortest * (1 - EQUAL), end < soonest * (1 - EQUAL)
            if shorter or (sooner and length <= shortest * (1 + EQUAL)):
                best = Order(table[..., 0], table[..., 1], table[..., 2], order.place)
                shortest, soonest = length, end
    assert best is not None
    return best


@compiled
def _fill(
    rows: Index,
    place: Index,
    m: int,
    limit: float,
    forward: float,
    backward: float,
    weight: float,
    hop: float,
    waiting: float,
    patience: float,
) -> tuple[NDArray[np.int64], float, float]:
    """Actions of shape (stages, actions, 3), the longest any stage takes from its first to its last, and when the last
    of all ends."""
    p, v = place.shape
    ends, n = p * v, rows.shape[1]
    ready = np.full((2, ends, m), np.inf)
    ready[0, 0, :] = 0.0
    stage_of = np.empty(ends, np.int64)
    for s in range(p):
        for c in range(v):
            stage_of[place[s, c]] = s
    owed = np.empty((p, v * m, 2), np.int64)
    table = np.full((p, n + v * m, 3), -1, np.int64)
    done, owing, paid, count = (
        np.zeros(p, np.int64),
        np.zeros(p, np.int64),
        np.zeros(p, np.int64),
        np.zeros(p, np.int64),
    )
    free, held, first, start = np.zeros(p), np.zeros(p), np.full(p, np.inf), np.zeros(p)
    pays, stale = np.zeros(p, np.bool_), np.ones(p, np.bool_)
    for _ in range(p * (n + v * m)):
        chosen = -1
        for s in range(p):
            if stale[s]:
                stale[s], pays[s], start[s] = False, False, np.inf
                due = paid[s] < owing[s]
                if done[s] < n:
                    c, i, kind = rows[s, done[s]]
                    start[s] = max(ready[min(kind, 1), place[s, c], i], free[s])
                    full = held[s] + (1.0 if kind == 0 else waiting - 1.0) > limit + 1e-9
                    if patience < 0:
                        pays[s] = due and (full or owing[s] - paid[s] > s)
                    else:
                        pays[s] = due and (full or start[s] - free[s] > patience * weight * (1 + 1e-12))
                else:
                    pays[s] = due
                if pays[s]:
                    start[s] = free[s]
            if start[s] < np.inf and (chosen < 0 or start[s] < start[chosen]):
                chosen = s
        if chosen < 0:
            return table, np.inf, np.inf
        s = chosen
        begins = start[s]
        if pays[s]:
            c, i, kind = owed[s, paid[s], 0], owed[s, paid[s], 1], 3
            paid[s] += 1
            free[s] = begins + weight
            held[s] -= waiting
        else:
            c, i, kind = rows[s, done[s]]
            done[s] += 1
            where = place[s, c]
            way = min(kind, 1)
            free[s] = begins + (backward if way == 1 else forward)
            held[s] += waiting - 1.0 if way == 1 else 1.0
            onward = where + 1 - 2 * way
            if way == 1:
                owed[s, owing[s], 0], owed[s, owing[s], 1] = c, i
                owing[s] += 1
            if way == 0 and onward == ends:
                ready[1, where, i] = free[s]
            elif onward >= 0:
                t = stage_of[onward]
                ready[way, onward, i] = free[s] + (hop if t != s else 0.0)
                stale[t] = True
        first[s] = min(first[s], begins)
        stale[s] = True
        table[s, count[s], 0], table[s, count[s], 1], table[s, count[s], 2] = c, i, kind
        count[s] += 1
    return table, (free - first).max(), free.max()
