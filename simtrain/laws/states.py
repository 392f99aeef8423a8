"""Bytes of training states under sharding: ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054, figure 1 and table 1)."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARDED_FROM: Final = {"weights": 3, "gradients": 2, "optimizer": 1}
"""The first ZeRO stage that shards each state class."""


def held_bytes(
    parameters: ArrayLike, element_bytes: ArrayLike, stage: ArrayLike, sharded_from: int, shards: ArrayLike
) -> NDArray[np.float64]:
    """Bytes (B) of one state class on a rank: `parameters` (1) x `element_bytes` (B), over `shards` ranks once sharded.

    All arguments broadcast. ZeRO (arXiv 1910.02054) figure 1: with Psi parameters and N ranks, 2 Psi + 2 Psi + 12 Psi,
    each term divided by N from its stage on.
    """
    over = np.where(np.asarray(stage) >= sharded_from, shards, 1)
    return np.asarray(np.asarray(parameters, float) * element_bytes / over, float)
