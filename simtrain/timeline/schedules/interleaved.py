"""Interleaved 1F1B (arXiv 2104.04473 section 2.2): depth first over chunks, a round of p microbatches at a time."""

import numpy as np

from simtrain.timeline.order import BACKWARD, FORWARD, Order, actions, alternating, joined, looped


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """Stage s of p with v chunks runs (v - 1)p + 2(p - s - 1) chunks ahead; m is a multiple of p."""
    rounds = np.arange(microbatches).reshape(-1, 1, stages)
    chunk = np.broadcast_to(np.arange(chunks)[None, :, None], (len(rounds), chunks, stages)).ravel()
    microbatch = np.broadcast_to(rounds, (len(rounds), chunks, stages)).ravel()
    forwards = actions(chunk, microbatch, FORWARD)
    backwards = actions(chunks - 1 - chunk, microbatch, BACKWARD)
    ahead = [(chunks - 1) * stages + 2 * (stages - stage - 1) for stage in range(stages)]
    return joined([alternating(forwards, backwards, warm_up) for warm_up in ahead], looped(stages, chunks))
