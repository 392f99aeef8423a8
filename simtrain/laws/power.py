"""What a power limit leaves of a device's clock."""


def capped_clock(limit: float, reference: float, idle: float) -> float:
    """Clock (1) that a power `limit` (W) sustains, over that of the same silicon under the limit `reference` (W).

    Power over `idle` (W) goes with the clock and the voltage squared, and the voltage with the clock: its cube root
    (Mudge 2001, "Power: a first-class architectural design constraint", doi 10.1109/2.917539, equations 1 and 3). A
    higher limit is not used: clocks end at the silicon's own.
    """
    return float(min((limit - idle) / (reference - idle), 1.0) ** (1 / 3))
