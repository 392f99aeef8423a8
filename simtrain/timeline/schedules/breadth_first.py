"""Breadth-first pipeline parallelism (arXiv 2211.05953): all microbatches of a chunk before the next chunk."""

import numpy as np

from simtrain.timeline.order import BACKWARD, FORWARD, Order, actions, joined, looped


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """Backward passes from the last chunk down, microbatches in reverse, as PyTorch's ScheduleLoopedBFS runs them."""
    several, down = np.arange(microbatches), range(chunks)
    row = np.concatenate(
        [actions(chunk, several, FORWARD) for chunk in down]
        + [actions(chunk, several[::-1], BACKWARD) for chunk in reversed(down)]
    )
    return joined([row] * stages, looped(stages, chunks))
