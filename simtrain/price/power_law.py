"""Curves of passes nobody measured: a law of time and power over the clock, fitted on the measured profiles."""

from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simtrain.laws.power import drawn_share, slowed, throttled_ratio
from simtrain.price.categories import CATEGORIES
from simtrain.price.curve import Curve
from simtrain.price.power_profile import FOLDER
from simtrain.spec.base import Evidence, Fact, Frequency, Spec, checked
from simtrain.spec.hardware import Device
from simtrain.spec.library import path_of, read_toml

Array = NDArray[np.float64]
CLOCKED: Final = ("matmul", "attention")
"""Categories of a pass that follow the clock of the device."""
MEMORY: Final = ("elementwise",)
"""Categories that draw as much power, but wait for memory; the rest waits for links and hosts."""
STEP: Final = 15e6
"""Hz between clocks that can be set (nvidia-smi lists of A100, A40 and H100)."""
LOWEST: Final = 0.6
"""Of the largest clock: no profile goes lower."""
Share = Annotated[float, Field(gt=0, le=1)]


class PowerLaw(Spec):
    """How the power of passes follows the clock; see laws.power.drawn_share."""

    floor: Share
    slope: Annotated[float, Field(ge=0, le=1)]
    full: Annotated[float, Field(gt=0)]
    """Power at the largest clock over the data sheet's limit, were it not throttled."""
    off: Annotated[float, Field(gt=0)]
    """Share by which nine of ten measured points differ from the law, of power or of a pass's joules."""
    source: str
    evidence: Evidence


def power_law(device: Device) -> PowerLaw:
    """The law of a device: its own, else the one assumed for devices without a profile."""
    tables = read_toml(path_of(FOLDER, "laws.toml"))
    return checked(PowerLaw, tables.get(device.name, tables["assumed"]), f"power law of {device.name}")


def blocking_power(device: Device) -> float:
    """W of a device that waits in a collective; where nobody measured it, a sixth of the limit."""
    return device.power_limit.value / 6 if device.idle_power is None else device.idle_power.value


def working_power(device: Device) -> float:
    """W of a device in a kernel at the largest clock it can hold: by the law, no more than its limit."""
    return min(power_law(device).full, 1.0) * device.power_limit.value


def clocks(device: Device) -> Array:
    """Hz that can be set, the largest first, down to where the law was fitted."""
    largest = largest_clock(device).value
    return np.asarray(np.arange(largest, LOWEST * largest - 1, -STEP))


def largest_clock(device: Device) -> Fact[Frequency]:
    """The device's, or that of an H100 where no one stated it."""
    if device.maximum_clock is not None:
        return device.maximum_clock
    return Fact[Frequency](value="1980 MHz", source="that of H100", evidence=Evidence.ASSUMED)


def law_curve(device: Device, seconds: Array) -> Curve:
    """The curve of a pass that takes `seconds` at the largest clock, by category (price.blocks.CATEGORIES).

    The device's power limit is the most a pass draws: clocks that would draw more by the law are throttled to the one
    that draws just that, at which kernels were timed.
    """
    law, clock = power_law(device), clocks(device)
    limit, blocking = device.power_limit.value, blocking_power(device)
    most = law.full * limit - blocking
    throttled = throttled_ratio((limit - blocking) / most, law.floor, law.slope)
    ratio = np.minimum(clock / clock[0], throttled)
    compute, memory = (float(sum(seconds[CATEGORIES.index(name)] for name in names)) for names in (CLOCKED, MEMORY))
    waiting = float(seconds.sum()) - compute - memory
    power = blocking + most * drawn_share(ratio, law.floor, law.slope)
    working = slowed(compute, memory, ratio / throttled)
    return Curve(clock, working + waiting, power * working + blocking * waiting)


def scaled_curve(measured: Curve, seconds: float) -> Curve:
    """A measured curve, smoothed, for a pass that takes `seconds` at the largest clock."""
    smooth = measured.smoothed()
    factor = seconds / smooth.seconds[smooth.clock.argmax()]
    return Curve(smooth.clock, factor * smooth.seconds, factor * smooth.joules)
