"""The Pareto front of two quantities that should be small."""

import numpy as np
from numpy.typing import NDArray


def front(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of points no other point beats in both quantities, by ascending `first`; arrays of shape (points,).

    Of points equal in both, the first in the array is kept.
    """
    order = np.lexsort((np.arange(len(first)), second, first))
    ordered = second[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(ordered)[:-1]]) if len(order) else ordered
    return order[ordered < before]


def thinned(second: NDArray[np.float64], least: float) -> NDArray[np.int64]:
    """Indices of points of a front, in its order, that lower the `second` quantity by a share of `least` or more since
    the one kept before; the first is."""
    kept: list[int] = []
    for row, value in enumerate(second.tolist()):
        if not kept or value <= (1 - least) * second[kept[-1]]:
            kept.append(row)
    return np.array(kept, dtype=np.int64)
