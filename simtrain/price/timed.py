"""Seconds with their evidence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timed:
    """Prices of many operations; arrays of one shape."""

    seconds: NDArray[np.float64]
    measured: NDArray[np.float64]
    """1 where the seconds rest on a measured row or lie between such rows, 0 where on a law."""
