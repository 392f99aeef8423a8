"""What a microbatch's seconds in a block are spent on."""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

CATEGORIES: Final = (
    "matmul",
    "attention",
    "elementwise",
    "tensor communication",
    "head exchange",
    "context communication",
    "expert communication",
    "launch",
)
MATMUL, ATTENTION, ELEMENTWISE, TENSOR, HEADS, CONTEXT, EXPERT, LAUNCH = range(len(CATEGORIES))
COMMUNICATION: Final = tuple(CATEGORIES[axis] for axis in (TENSOR, HEADS, CONTEXT, EXPERT))
"""Categories of a pass in which a rank waits for others."""
Parts = NDArray[np.float64]
"""Seconds by category, shape (categories, ...)."""


def summed(rows: Parts) -> Parts:
    """Sum over the leading axis, row after row: numpy's own order depends on how many plans stand beside."""
    return functools.reduce(np.add, rows)
