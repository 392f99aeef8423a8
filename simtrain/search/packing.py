"""Where to put blocks of known lifetimes so that memory ends as low as can be: a static plan instead of an allocator.

Dynamic storage allocation, the second level of MEMO (arXiv 2407.12117). It is NP-hard: a best fit by lifetime
serves steps, an exact mixed-integer program small cases.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simtrain.search.program import solved
from simtrain.timeline.lifetimes import Array, Lifetimes
from simtrain.timeline.order import Index

ORDERS: Final = ("birth", "lifetime", "size", "area")
"""What blocks are placed by, longest or largest first (births: earliest first); the lowest placement is taken."""


@dataclass(frozen=True)
class Packing:
    """Offsets of blocks, bytes, shape (blocks,), and the height they reach."""

    offset: Array
    height: float


def packed(blocks: Lifetimes) -> Packing:
    """The best of a best fit in a few orders: each block goes into the smallest gap that holds it for its lifetime."""
    span = blocks.death - blocks.birth
    keys = {"birth": blocks.birth, "lifetime": -span, "size": -blocks.size, "area": -blocks.size * span}
    found = (_best_fit(blocks, np.lexsort((-blocks.size, keys[name]))) for name in ORDERS)
    return min(found, key=lambda packing: packing.height)


def _best_fit(blocks: Lifetimes, order: Index) -> Packing:
    offset = np.zeros(len(blocks.size))
    placed: list[int] = []
    for block in order.tolist():
        others = np.array(placed, dtype=np.int64)
        beside = others[(blocks.birth[others] < blocks.death[block]) & (blocks.death[others] > blocks.birth[block])]
        offset[block] = _gap(offset[beside], offset[beside] + blocks.size[beside], float(blocks.size[block]))
        placed.append(block)
    return Packing(offset, float((offset + blocks.size).max(initial=0.0)))


def _gap(low: Array, high: Array, size: float) -> float:
    """The start of the smallest gap between occupied ranges that holds `size`; above all of them where none does."""
    by_start = np.argsort(low)
    tops = np.concatenate([[0.0], np.maximum.accumulate(high[by_start])])
    room = low[by_start] - tops[:-1]
    fitting = np.flatnonzero(room >= size * (1 - 1e-12))
    return float(tops[fitting[room[fitting].argmin()]] if len(fitting) else tops[-1])


def exactly_packed(blocks: Lifetimes) -> Packing:
    """The lowest placement there is, by a mixed-integer program; for tens of blocks."""
    count, whole = len(blocks.size), float(blocks.size.sum())
    first, second = np.triu_indices(count, 1)
    meet = (blocks.birth[first] < blocks.death[second]) & (blocks.death[first] > blocks.birth[second])
    first, second = first[meet], second[meet]
    pairs = len(first)
    size = blocks.size / whole
    rows = np.zeros((2 * pairs + count, count + pairs + 1))
    limit = np.zeros(len(rows))
    below = np.arange(pairs)
    rows[below, first], rows[below, second], rows[below, count + below] = 1.0, -1.0, 1.0
    limit[:pairs] = 1.0 - size[first]
    above = pairs + below
    rows[above, second], rows[above, first], rows[above, count + below] = 1.0, -1.0, -1.0
    limit[pairs : 2 * pairs] = -size[second]
    tops = 2 * pairs + np.arange(count)
    rows[tops, np.arange(count)], rows[tops, -1] = 1.0, -1.0
    limit[2 * pairs :] = -size
    cost = np.zeros(count + pairs + 1)
    cost[-1] = 1.0
    found = solved(
        cost,
        rows,
        low=np.full(len(rows), -np.inf),
        high=limit,
        whole=np.concatenate([np.zeros(count), np.ones(pairs), [0.0]]),
        most=np.ones(len(cost)),
    )
    assert found is not None
    return _settled(blocks, np.argsort(found[:count], kind="stable"))


def _settled(blocks: Lifetimes, order: Index) -> Packing:
    """Blocks let down in this order onto those they live beside: what the solver's tolerance left is gone."""
    offset = np.zeros(len(blocks.size))
    for at, block in enumerate(order.tolist()):
        under = order[:at]
        beside = under[(blocks.birth[under] < blocks.death[block]) & (blocks.death[under] > blocks.birth[block])]
        offset[block] = (offset[beside] + blocks.size[beside]).max(initial=0.0)
    return Packing(offset, float((offset + blocks.size).max(initial=0.0)))
