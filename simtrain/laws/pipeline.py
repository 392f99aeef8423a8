"""Published bubble ratios of pipelines: the share of a step in which a stage idles (1), where messages are free.

What an order of ours comes to the replay says.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def flushed_bubble(stages: ArrayLike, microbatches: ArrayLike) -> Array:
    """(p - 1)/(m + p - 1): GPipe (arXiv 1811.06965) and 1F1B (arXiv 2006.09503)."""
    fill = np.asarray(stages, float) - 1
    return np.asarray(fill / (microbatches + fill))


def chimera_bubble(stages: ArrayLike, microbatches: ArrayLike) -> Array:
    """(D - 2)/(3N/2 + D - 2): Chimera (arXiv 2107.06925), two pipelines of D stages that run against each other.

    N microbatches; T_B = 2 T_F.
    """
    fill = np.asarray(stages, float) - 2
    return np.asarray(fill / (1.5 * np.asarray(microbatches, float) + fill))


def wave_bubble(stages: ArrayLike, waves: ArrayLike) -> Array:
    """(2P - 2)/(3PW + P - 1): Hanayo (arXiv 2308.15762), P microbatches in W waves; read in notes on the paper.

    T_B = 2 T_F. In backward passes of a chunk a stage's work is 3PW, and 2P - 2 is what timeline/schedules/wave.py
    leaves it idle; the published step is P - 1 shorter than both together.
    """
    fill = np.asarray(stages, float) - 1
    return np.asarray(2 * fill / (3 * np.asarray(stages, float) * waves + fill))
