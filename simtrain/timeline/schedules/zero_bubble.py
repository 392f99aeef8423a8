"""ZB-1p and ZB-2p (arXiv 2401.10241): weight gradients apart, under the activations of p or 2p microbatches.

With equal passes they are the paper's ZB-H1 and ZB-H2 (section 2).
"""

import math
from collections.abc import Iterator

import numpy as np

from simtrain.timeline.order import FORWARD, INPUT, Order, actions, alternating, joined, looped
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.schedules.weights import filled


def order(stages: int, microbatches: int, pace: Pace, limit: int) -> Order:
    """Searched to fit `pace`; `limit`: microbatches a stage may hold."""
    return filled(_skeletons(stages, microbatches, pace, limit), limit, pace)


def _skeletons(stages: int, microbatches: int, pace: Pace, limit: int) -> Iterator[Order]:
    """1F1B orders that differ in how many forward passes more than the next a stage runs ahead: one, as many as the
    limit holds, or as many as fit until the first backward pass comes back."""
    several = np.arange(microbatches)
    forwards, backwards = actions(0, several, FORWARD), actions(0, several, INPUT)
    trip = (pace.forward + pace.backward + 2 * pace.hop) / pace.forward
    most = (limit - 1) / max(stages - 1, 1)
    for each in sorted({1.0, min(trip, most), most, min(math.floor(trip), most)}):
        ahead = [min(math.floor((stages - 1 - stage) * each + 0.5), limit - 1) for stage in range(stages)]
        yield joined([alternating(forwards, backwards, warm_up) for warm_up in ahead], looped(stages, 1))
