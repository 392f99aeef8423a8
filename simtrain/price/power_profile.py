"""Measured power profiles: seconds and joules of a pipeline's passes at every clock (profiles/power/)."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from pydantic import Field, PositiveInt

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.price.curve import Curve
from simtrain.spec.base import Evidence, Fact, Power, Spec, checked
from simtrain.spec.library import path_of, read_toml

FOLDER: Final = "profiles/power"
COLUMNS: Final = ("stage", "phase", "clock_mhz", "time_s", "energy_j")
PHASES: Final = ("forward", "backward")
MHZ: Final = 1e6


class Measured(Spec):
    """What a power profile was measured on."""

    model: str
    device: str
    tp: PositiveInt
    pp: PositiveInt
    layer_bounds: Annotated[list[int], Field(min_length=2)]
    precision: str
    blocking_power: Fact[Power]
    source: str
    evidence: Evidence


@dataclass(frozen=True)
class PowerProfile:
    """Curves of every stage, forward and backward pass; of one device and one microbatch."""

    name: str
    curves: tuple[tuple[Curve, Curve], ...]
    measured: Measured | None = None
    """None: a user's own."""


@cache
def shipped() -> dict[str, Measured]:
    """The profiles that travel with the program."""
    tables = read_toml(path_of(FOLDER, "profiles.toml"))
    return {name: checked(Measured, table, name) for name, table in tables.items()}


@cache
def power_profile(name: str) -> PowerProfile:
    """A shipped profile, or a user's own file (a path ending in .csv); WrongInput lists all that is wrong with it."""
    if name.endswith(".csv"):
        return PowerProfile(name, _read(Path(name)))
    if name not in shipped():
        raise WrongInput([Problem("--profile", name, "is not known", nearest(name, shipped()))])
    return PowerProfile(name, _read(path_of(FOLDER, f"{name}.csv")), shipped()[name])


def matching(model: str, device: str, pp: int) -> PowerProfile | None:
    """The shipped profile of this model in as many stages on this device, if there is one."""
    for name, about in shipped().items():
        if (about.model, about.device, about.pp) == (model, device, pp):
            return power_profile(name)
    return None


def _read(path: Path) -> tuple[tuple[Curve, Curve], ...]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(
            [Problem(str(path), None, f"cannot be read: {getattr(error, 'strerror', 'it is not UTF-8 text')}")]
        ) from None
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        rule = f"needs the columns {', '.join(COLUMNS)} and a row a stage, phase and clock"
        raise WrongInput([Problem(str(path), None, rule)])
    points: dict[tuple[int, str], list[tuple[float, float, float]]] = defaultdict(list)
    problems = []
    for line, row in enumerate(rows, start=2):
        try:
            stage, phase = int(row["stage"]), row["phase"]
            point = (MHZ * float(row["clock_mhz"]), float(row["time_s"]), float(row["energy_j"]))
        except (TypeError, ValueError):
            problems.append(Problem(f"{path}: line {line}", None, "is not a row of numbers"))
            continue
        if phase not in PHASES:
            problems.append(Problem(f"{path}: line {line}", phase, "is not a phase", nearest(phase, PHASES)))
        elif stage < 0 or not all(0 < value < np.inf for value in point):
            problems.append(Problem(f"{path}: line {line}", None, "must hold positive numbers"))
        else:
            points[stage, phase].append(point)
    stages = max((stage for stage, _ in points), default=-1) + 1
    for stage in range(stages):
        for phase in PHASES:
            clocks = {point[0] for point in points[stage, phase]}
            if len(clocks) < 2 or len(clocks) < len(points[stage, phase]):
                rule = f"has {len(points[stage, phase])} points at {len(clocks)} clocks; it needs two clocks, each once"
                problems.append(Problem(f"{path}: stage {stage}, {phase}", None, rule, "measure it at more clocks"))
    if problems or not stages:
        raise WrongInput(problems or [Problem(str(path), None, "holds no point")])
    return tuple(
        tuple(Curve(*np.array(sorted(points[stage, phase], reverse=True)).T) for phase in PHASES)  # type: ignore[misc]
        for stage in range(stages)
    )
