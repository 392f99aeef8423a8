"""Power, clock and time: what a power limit leaves of a clock, what a lower one draws and takes."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def capped_clock(limit: float, reference: float, idle: float) -> float:
    """Clock (1) that a power `limit` (W) sustains, over that of the same silicon under the limit `reference` (W).

    Power over `idle` (W) goes with the clock and the voltage squared, and the voltage with the clock: its cube root
    (Mudge 2001, "Power: a first-class architectural design constraint", doi 10.1109/2.917539, equations 1 and 3). A
    higher limit is not used: clocks end at the silicon's own.
    """
    return float(min((limit - idle) / (reference - idle), 1.0) ** (1 / 3))


def drawn_share(ratio: Array, floor: float, slope: float) -> Array:
    """Power above waiting at clock `ratio` (of the largest, 1), over that at the largest clock (1).

    Dynamic power goes with the clock and the voltage squared (Mudge 2001, doi 10.1109/2.917539, equation 1). Voltage
    falls with the clock by `slope` (1) down to `floor` (1), below which it stays: fitted in profiles/power/laws.toml.
    """
    voltage = np.maximum(floor, 1 - slope * (1 - ratio))
    return np.asarray(ratio * voltage**2)


def throttled_ratio(share: float, floor: float, slope: float) -> float:
    """Clock (of the largest, 1) at which `drawn_share` comes to `share` (1); 1 where it never does.

    `drawn_share` (Mudge 2001, doi 10.1109/2.917539, equation 1) inverted: a board keeps its limit by its clock.
    """
    from scipy.optimize import brentq

    if share >= 1:
        return 1.0
    return float(brentq(lambda ratio: float(drawn_share(np.asarray(ratio), floor, slope)) - share, 0.0, 1.0))


def slowed(compute: float, rest: float, ratio: Array) -> Array:
    """Seconds at clock `ratio` (of the largest, 1) of a pass with `compute` s bound by the clock and `rest` s not.

    Memory, links and hosts keep their own clocks (Hsu and Kremer 2003, doi 10.1145/781131.781137).
    """
    return np.asarray(compute / ratio + rest)
