"""Watts a device draws at stock clocks by what it does: measured in its profile, else by the law of power."""

import csv
from collections.abc import Mapping
from typing import Final

from simtrain.price.power_law import blocking_power, power_law, working_power
from simtrain.price.profile import FOLDER
from simtrain.spec.base import Evidence, Fact, Power
from simtrain.spec.hardware import Device
from simtrain.spec.library import path_of

Watts = Mapping[str, Fact[Power]]
DOES: Final = ("matmul", "attention", "memory", "launch", "idle")
"""Products, core attention, passes through memory, waiting for a host that launches, waiting."""
WORKS: Final = ("matmul", "attention", "memory")
FILE: Final = "power.csv"


def stock_power(device: Device) -> Watts:
    """Of every kind of DOES. The law's device draws its throttled power in every kernel (see price.power_law)."""
    law, idle = power_law(device), blocking_power(device)
    limit = device.power_limit
    for_work = _fact(working_power(device), limit.source + "; " + law.source, _weaker(law.evidence, limit.evidence))
    guessed = Fact[Power](value=f"{idle!r} W", source="a sixth of the power limit", evidence=Evidence.ASSUMED)
    at_rest = device.idle_power or guessed
    by_law = {name: for_work if name in WORKS else at_rest for name in DOES}
    return by_law | _measured(device)


def _measured(device: Device) -> dict[str, Fact[Power]]:
    """What `simtrain measure` found by the energy counter."""
    path = path_of(FOLDER, device.profile or device.name, FILE)
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["name"]: float(row["power_w"]) for row in csv.DictReader(file)}
    return {name: _fact(rows[name], str(path), Evidence.MEASURED_HERE) for name in DOES if name in rows}


def _fact(power: float, source: str, evidence: Evidence) -> Fact[Power]:
    return Fact[Power](value=f"{power!r} W", source=source, evidence=evidence)


def _weaker(*grades: Evidence) -> Evidence:
    """The grade of a number that rests on all of them."""
    return max(grades, key=list(Evidence).index)


def joules(seconds: Mapping[str, float], watts: Watts, does: Mapping[str, str]) -> tuple[float, Evidence]:
    """Of one device that spends these seconds on terms that do one of DOES; and the weakest grade they rest on."""
    spent = {term: value for term, value in seconds.items() if value > 0}
    total = sum(value * watts[does[term]].value for term, value in spent.items())
    return total, _weaker(Evidence.MEASURED_HERE, *(watts[does[term]].evidence for term in spent))
