"""GPipe (arXiv 1811.06965): all forward passes, then all backward passes."""

import numpy as np

from simtrain.timeline.order import BACKWARD, FORWARD, Order, actions, joined, looped


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """Backward passes in the order of the forward passes, as PyTorch's ScheduleGPipe runs them."""
    several = np.arange(microbatches)
    row = np.concatenate([actions(0, several, FORWARD), actions(0, several, BACKWARD)])
    return joined([row] * stages, looped(stages, chunks))
