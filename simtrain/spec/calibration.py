"""What calibration against whole training runs found, in profiles/calibration (written by `simtrain calibrate`)."""

import functools
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from simtrain.errors import Problem, WrongInput
from simtrain.spec.base import Evidence, Fact, Spec, checked
from simtrain.spec.library import path_of, read_toml

FOLDER = "profiles/calibration"
DEVICES, STACKS, ERRORS = "devices.toml", "stacks.toml", "errors.toml"
FEWEST = 10
"""Runs below which a 90th percentile says little: the next wider group answers."""
RATES = "rates.toml"
"""Beside a profile of one's own: what `simtrain calibrate --from` found."""
DEFAULT = "default"
"""The entry of devices and pairs that no run was seen of."""
Ratio = Annotated[float, Field(gt=0, le=2)]


def _unknown() -> Fact[Ratio]:
    return Fact[Ratio](value=1.0, source="not calibrated", evidence=Evidence.ASSUMED)


class DeviceRates(Spec):
    """Rates (1) in sustained training over those of the kernel and collective tables or laws.

    Tables are timed one kernel at a time on a cool device; in training clocks drop under the power limit, caches
    are cold, operands are transposed and collectives take memory bandwidth and processors from compute.
    """

    matmul: Fact[Ratio] = Field(default_factory=_unknown)
    elementwise: Fact[Ratio] = Field(default_factory=_unknown)
    attention: Fact[Ratio] = Field(default_factory=_unknown)
    """Fused attention kernels."""
    unfused_attention: Fact[Ratio] = Field(default_factory=_unknown)
    """Products and softmax of attention without a fused kernel."""
    scaleup: Fact[Ratio] = Field(default_factory=_unknown)
    """Collectives inside a scale-up domain."""
    network: Fact[Ratio] = Field(default_factory=_unknown)
    """Collectives between domains."""


class LeftOut(Spec):
    """Errors of runs that a fit did not see: of one stack on one device, of a stack, of a device, or of all."""

    runs: Annotated[int, Field(ge=1)]
    median: Annotated[float, Field(ge=0)]
    p90: Annotated[float, Field(ge=0)]
    """90 % of the runs were predicted within this share of their step time."""


@functools.cache
def table(name: str) -> dict[str, Any]:
    """One file of the calibration, empty before the first."""
    path = path_of(FOLDER, name)
    return read_toml(path) if path.is_file() else {}


@functools.cache
def device_rates(*names: str | None) -> DeviceRates:
    """Each rate of the first of these (node, profile, device, silicon, architecture) that has it; else the median.

    A profile that is a path is a user's own: its rates.toml or, before it was calibrated, 1.
    """
    known = table(DEVICES)
    found: dict[str, Any] = {}
    own = next((Path(name) for name in names if name and Path(name).is_absolute()), None)
    if own is not None:
        path = own / RATES
        return checked(DeviceRates, read_toml(path), str(path)) if path.is_file() else DeviceRates()
    for name in (*filter(None, names), DEFAULT):
        found = known.get(name, {}) | found
    return checked(DeviceRates, found, DEVICES)


@functools.cache
def left_out(stack: str, *devices: str | None) -> tuple[LeftOut, str] | None:
    """Errors nearest to a stack on a device, and what they are of; None before the first calibration."""
    known = table(ERRORS)
    pairs = [f"{stack} on {device}" for device in devices]
    for name in (*pairs, stack, *devices, DEFAULT):
        if name in known and (known[name]["runs"] >= FEWEST or name == DEFAULT):
            return checked(LeftOut, known[name], f"{ERRORS}: {name}"), str(name)
    return None


class OwnScale(Spec):
    """What a user's own runs say of one stack on one device (written by `simtrain calibrate --runs`)."""

    stack: str
    device: str
    factor: Fact[Annotated[float, Field(gt=0, le=100)]]
    """Measured over predicted step time (1)."""
    runs: PositiveInt
    p90: Annotated[float, Field(ge=0)]
    """90 % of further runs are expected within this share of their step time."""


class OwnCalibration(Spec):
    """A user's calibration file."""

    scale: Annotated[tuple[OwnScale, ...], Field(min_length=1)]


def own_scales(path: Path) -> tuple[OwnScale, ...]:
    """All scales of a user's file; WrongInput where it is wrong."""
    return checked(OwnCalibration, read_toml(path), str(path)).scale


def own_scale(path: Path, stack: str, device: str) -> OwnScale:
    """The scale of a stack on a device in a user's file; WrongInput where it has none."""
    found = own_scales(path)
    for scale in found:
        if (scale.stack, scale.device) == (stack, device):
            return scale
    known = ", ".join(f"{scale.stack} on {scale.device}" for scale in found)
    rule = f"has no runs of {stack} on {device}"
    raise WrongInput([Problem("--calibration", str(path), rule, f"it has {known}")])
