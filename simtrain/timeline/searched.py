"""Bubbles of schedules that are searched rather than written down, looked up plan by plan."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.plan import PlanTable
from simtrain.timeline.schedules import wave
from simtrain.timeline.schedules.pace import Pace
from simtrain.workload.strategies.pipeline import HANAYO

Array = NDArray[np.float64]
STEP: Final = 20
"""Ratios of passes are rounded to this part of the forward pass."""


def wave_bubble(plans: PlanTable, forward: Array, backward: Array, hop: Array) -> Array:
    """Seconds a step of waves is longer than its passes, those of a microbatch given, all of shape (plans,).

    Other schedules: 0. Plans of equal stages, chunks, microbatches and about equal ratios of passes share a search.
    """
    found = np.zeros(len(plans))
    rows = np.flatnonzero(plans.schedule == HANAYO)
    chunk = forward / plans.vpp
    ratios = [np.rint(STEP * part / forward).astype(np.int64) for part in (backward, hop * plans.vpp)]
    keys = np.stack([plans.pp, plans.vpp, plans.microbatches, *ratios], axis=1)[rows]
    distinct, index = np.unique(keys, axis=0, return_inverse=True)
    found[rows] = np.array([_idle(*key) for key in distinct.tolist()])[index.ravel()] * chunk[rows]
    return found


@cache
def _idle(stages: int, chunks: int, microbatches: int, backward: int, hop: int) -> float:
    """Idle time of the shortest wave, in forward passes of a chunk."""
    pace = Pace(1.0, backward / STEP, 0.0, hop / STEP)
    return wave.searched(stages, chunks, microbatches, pace)[1] - microbatches * chunks * (1 + backward / STEP)
