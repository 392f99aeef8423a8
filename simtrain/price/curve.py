"""Seconds and joules of one pass at every clock of a device."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One microbatch's pass on one device; arrays of shape (clocks,)."""

    clock: Array
    """Hz."""
    seconds: Array
    joules: Array

    def __len__(self) -> int:
        return len(self.clock)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The same curve at some of its clocks."""
        return type(self)(self.clock[rows], self.seconds[rows], self.joules[rows])

    def over(self, blocking: float) -> Self:
        """Joules beyond those of a device that waits at `blocking` W for as long (Perseus, arXiv 2312.06902)."""
        return type(self)(self.clock, self.seconds, self.joules - blocking * self.seconds)

    def worth(self) -> Self:
        """The clocks no other beats in both time and energy, fastest first."""
        order = np.lexsort((self.joules, self.seconds))
        best = np.minimum.accumulate(self.joules[order])
        return self.take(order[np.concatenate([[True], best[1:] < best[:-1]])])

    def hull(self) -> Self:
        """The lower convex hull of the clocks worth it, fastest first."""
        points = self.worth()
        kept: list[int] = []
        for at in range(len(points)):
            while len(kept) > 1 and points._slope(kept[-2], kept[-1]) >= points._slope(kept[-2], at):
                kept.pop()
            kept.append(at)
        return points.take(np.array(kept))

    def _slope(self, a: int, b: int) -> float:
        return float((self.joules[b] - self.joules[a]) / (self.seconds[b] - self.seconds[a]))

    def smoothed(self) -> Self:
        """Without noise: seconds never grow with the clock, and joules are the nearest convex function of them.

        Least squares both. Lucky points of a noisy table would be picked first by whatever minimises over it.
        """
        from scipy.optimize import isotonic_regression, lsq_linear

        order = np.argsort(-self.clock)
        seconds = isotonic_regression(self.seconds[order]).x
        at, index = np.unique(seconds, return_inverse=True)
        if len(at) < 3:
            return type(self)(self.clock[order], seconds, self.joules[order])
        scaled = (at - at[0]) / (at[-1] - at[0])
        bends = np.maximum(scaled[:, None] - scaled[None, 1:-1], 0.0)
        parts = np.column_stack([np.ones_like(scaled), scaled, bends])[index]
        least = np.concatenate([[-np.inf, -np.inf], np.zeros(bends.shape[1])])
        size = np.abs(self.joules).max()
        found = lsq_linear(parts, self.joules[order] / size, bounds=(least, np.inf))
        return type(self)(self.clock[order], seconds, size * (parts @ found.x))

    def capped(self, limit: float, waiting: float) -> Self:
        """Under a power limit (W): a clock that would draw more is throttled until the pass draws no more.

        It then takes as long as between the two clocks around the limit; where all draw more, as long as what the
        slowest takes beyond `waiting` W, less than the limit, allows: that is drawn whatever is done.
        """
        power = self.joules / self.seconds
        above = power > limit
        if not above.any():
            return self
        order = np.argsort(power)
        held = float(np.interp(limit, power[order], self.seconds[order]))
        if above.all():
            beyond = float(self.joules[order[0]] - waiting * self.seconds[order[0]])
            held = beyond / (limit - waiting)
        seconds = np.where(above, np.maximum(held, self.seconds), self.seconds)
        return type(self)(self.clock, seconds, np.where(above, limit * seconds, self.joules))
