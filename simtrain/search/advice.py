"""What would make a job fit that does not."""

from typing import Final

import numpy as np

from simtrain.search.search import Search
from simtrain.spec import load
from simtrain.spec.library import names

LARGEST_GROWTH: Final = 64
STATE_CLASSES: Final = 3
"""Weights, gradients and optimizer lead the memory classes."""


def advice(result: Search) -> list[str]:
    """Ways out when nothing fits, cheapest change first: recomputed from the closest plan's memory."""
    need = float(result.closest.memory.total[0])
    capacity = result.closest.capacity
    job = result.job
    hints = []
    states = float(result.closest.memory.classes[:STATE_CLASSES, 0].sum())
    rest = need - states
    for growth in (2**power for power in range(1, LARGEST_GROWTH.bit_length())):
        if rest + states / growth <= capacity:
            hints.append(f"about {job.devices * growth} devices, so that states are spread over {growth}x more")
            break
    devices = map(load.device, names(load.DEVICES))
    larger = sorted((device.memory.value, device.title) for device in devices if device.memory.value >= need)
    if larger:
        hints.append(f"devices with at least as much memory as {larger[0][1]}")
    if rest > states:
        tokens = int(job.sequence * capacity / need)
        hints.append(f"a sequence of about {max(256, 2 ** int(np.log2(max(tokens, 256))))} positions")
    return hints
