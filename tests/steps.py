"""Replayed steps the tests share: hand-made costs, so that no calibration moves them."""

import numpy as np

from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.footprint import Footprint, Held, footprint
from simtrain.timeline.memory import CLASSES
from simtrain.timeline.order import Order
from simtrain.timeline.step import Step, step

CATEGORIES = ("matmul", "attention", "tensor communication", "context communication")
SHARES = np.array([0.6, 0.2, 0.15, 0.05])[:, None, None]
HIDDEN = 0.1
"""Tensor communication beside a pass, over its seconds; of a backward pass with both gradients."""
GIB = 2.0**30


def costs(stages: int, chunks: int, shown: float = 1.0, every: bool = False) -> Costs:
    """A chunk takes 10 ms forward, 12 and 8 ms backward, and 1.2 times that on the last stage; `every`: traffic of
    every microbatch."""
    one = np.ones((1, stages, chunks))
    one[:, -1] = 1.2
    each = np.ones((stages, chunks))
    beside = HIDDEN * (np.array(CATEGORIES) == "tensor communication")[:, None, None] * one
    return Costs(
        hidden=np.stack([10e-3 * beside, 20e-3 * beside]),
        forward=10e-3 * SHARES * one,
        backward=12e-3 * SHARES * one,
        weight=8e-3 * SHARES * one,
        hops=np.full(stages, 1e-3),
        shown=shown,
        gather=Traffic(4e-3 * each, 0.75, every, 3e-3 * each),
        reduction=Traffic(6e-3 * each, 0.5, every),
        buckets=3,
        update=np.full(stages, 2e-3),
        overhead=1e-3,
    )


def replay(
    order: Order, shown: float = 1.0, every: bool = False, slowdown: list[list[float]] | None = None
) -> tuple[Step, Footprint]:
    """A step of these costs and its memory; see `costs` and timeline.build."""
    stages, chunks = order.place.shape
    each = np.ones((stages, chunks))
    logits = np.where((order.place == order.place.size - 1).any(axis=1), 3 * GIB, 0.0)
    resident = np.zeros((len(CLASSES), stages))
    resident[CLASSES.index("weights")] = 20 * GIB
    held = Held(resident, GIB * each, 0.5 * GIB * each, logits, np.full(stages, 2 * GIB), 0.03)
    found = step(order, costs(stages, chunks, shown, every), None if slowdown is None else np.array(slowdown))
    return found, footprint(order, held)
