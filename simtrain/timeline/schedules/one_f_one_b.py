"""1F1B (PipeDream-flush, arXiv 2006.09503): one forward and one backward pass in turn once the pipeline is full."""

import numpy as np

from simtrain.timeline.order import BACKWARD, FORWARD, Order, actions, alternating, joined, looped


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """Stage s of p runs p - s - 1 forward passes ahead."""
    several = np.arange(microbatches)
    forwards, backwards = actions(0, several, FORWARD), actions(0, several, BACKWARD)
    rows = [alternating(forwards, backwards, stages - stage - 1) for stage in range(stages)]
    return joined(rows, looped(stages, chunks))
