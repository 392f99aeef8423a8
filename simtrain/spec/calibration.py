"""What calibration against whole training runs found: rates a device reaches in training, over those of its tables."""

import functools
from typing import Annotated

from pydantic import Field

from simtrain.spec.base import Evidence, Fact, Spec, checked
from simtrain.spec.library import path_of, read_toml

Rate = Annotated[float, Field(gt=0, le=2)]
DEVICES = ("profiles/calibration", "devices.toml")


def _unknown() -> Fact[Rate]:
    return Fact[Rate](value=1.0, source="not calibrated", evidence=Evidence.ASSUMED)


class DeviceRates(Spec):
    """Rates (1) in sustained training over those of the kernel and collective tables or laws.

    Tables are timed one kernel at a time on a cool device; in training clocks drop under the power limit, caches
    are cold, operands are transposed and collectives take memory bandwidth and processors from compute.
    """

    matmul: Fact[Rate] = Field(default_factory=_unknown)
    attention: Fact[Rate] = Field(default_factory=_unknown)
    elementwise: Fact[Rate] = Field(default_factory=_unknown)
    scaleup: Fact[Rate] = Field(default_factory=_unknown)
    """Collectives inside a scale-up domain."""
    network: Fact[Rate] = Field(default_factory=_unknown)
    """Collectives between domains."""


@functools.cache
def _table() -> dict[str, DeviceRates]:
    path = path_of(*DEVICES)
    data = read_toml(path) if path.is_file() else {}
    return {name: checked(DeviceRates, entry, f"{path.name}: {name}") for name, entry in data.items()}


def device_rates(*names: str | None) -> DeviceRates:
    """Rates of the first of these devices that was calibrated; else `default`, the median of those that were."""
    table = _table()
    for name in (*names, "default"):
        if name in table:
            return table[name]
    return DeviceRates()
