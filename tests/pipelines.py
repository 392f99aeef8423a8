"""Pipelines the tests share: equal stages, and an order of every schedule."""

import numpy as np

from simtrain.timeline.build import build
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.order import NONE, Order, named
from simtrain.timeline.replay import Times, replay
from simtrain.timeline.schedules import (
    breadth_first,
    dual_pipe_v,
    gpipe,
    interleaved,
    one_f_one_b,
    wave,
    zero_bubble,
    zero_bubble_v,
)
from simtrain.timeline.schedules.pace import Pace

EVEN = Pace()
SCHEDULES = {
    "gpipe": (1, gpipe.order),
    "1f1b": (1, one_f_one_b.order),
    "interleaved": (3, interleaved.order),
    "breadth-first": (3, breadth_first.order),
    "dual-pipe-v": (2, dual_pipe_v.order),
    "wave": (4, wave.order),
    "zb-1p": (1, lambda p, v, m: zero_bubble.order(p, m, EVEN, limit=p)),
    "zb-2p": (1, lambda p, v, m: zero_bubble.order(p, m, EVEN, limit=2 * p)),
    "zb-v": (2, lambda p, v, m: zero_bubble_v.order(p, v, m, EVEN)),
}
"""Chunks to try it with, and order(stages, chunks, microbatches)."""


def costs(
    stages: int, chunks: int, forward: float = 1.0, backward: float = 1.0, weight: float = 1.0, hop: float = 0.0, **more
) -> Costs:
    """Equal stages without data-parallel traffic; seconds of a chunk's passes, one category."""
    every = np.ones((1, stages, chunks))
    none = Traffic(np.zeros((stages, chunks)), again=np.zeros((stages, chunks)))
    stated = {"gather": none, "reduction": none, "update": np.zeros(stages)} | more
    return Costs(forward * every, backward * every, weight * every, np.full(stages, hop), **stated)


def replayed(order: Order, given: Costs) -> Times:
    """When everything runs."""
    return replay(build(order, given))


def written(order: Order) -> list[list[str]]:
    """The actions of every stage as PyTorch writes them."""
    return [
        [named(*action) for action in zip(*row, strict=True) if action[1] != NONE]
        for row in zip(order.position.tolist(), order.phase.tolist(), order.microbatch.tolist(), strict=True)
    ]
