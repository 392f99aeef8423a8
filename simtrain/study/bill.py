"""What energy and device time come to in money and carbon."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.spec.base import Fact
from simtrain.spec.job import Job
from simtrain.spec.library import path_of, read_toml
from simtrain.units import parse

STATED: Final = "stated"


@dataclass(frozen=True)
class Rates:
    """What a site asks for energy and devices; see `rates`."""

    pue: float
    """Joules of the site a joule of the machines."""
    grid: float
    """kg CO2e a joule."""
    tariff: float | None
    """USD a joule; None: the price of devices covers it."""
    price: float | None
    """USD a device and second."""
    pue_from: str = STATED
    grid_from: str = STATED
    """Who says so."""


@dataclass(frozen=True)
class Bill:
    """Of one step or a run."""

    joules: float
    """At the meter of the site, PUE included."""
    money: float | None
    """USD: devices, and energy where there is a tariff; None without both."""
    carbon: float
    """kg CO2e of the energy."""
    embodied: float
    """kg CO2e of making the devices, the share of this time."""


def rates(job: Job, pue: float | None, grid: float | None, tariff: float | None, price: float | None) -> Rates:
    """The cluster's, or what is stated instead; what nobody states: PUE 1, and the grid of the world's average."""
    cluster = job.cluster
    return Rates(
        pue=pue if pue is not None else 1.0 if cluster.pue is None else cluster.pue.value,
        grid=grid if grid is not None else intensity("world") if cluster.grid is None else cluster.grid.value,
        tariff=tariff,
        price=price if price is not None else None if cluster.price is None else cluster.price.value,
        pue_from=STATED if pue is not None else _said(cluster.pue, "not stated"),
        grid_from=STATED if grid is not None else _said(cluster.grid, "the world's mean, assumed"),
    )


def _said(fact: Fact[float] | None, otherwise: str) -> str:
    return otherwise if fact is None else f"cluster file, {fact.evidence.value}"


def intensity(place: str) -> float:
    """Of a country's grid, kg CO2e a joule (profiles/power/carbon.toml), or of a figure like `57 g/kWh`."""
    known: dict[str, str] = _table()["grid"]["intensity"]
    if place in known:
        return parse(known[place], "kg/J")
    try:
        return _positive(parse(place, "kg/J"))
    except ValueError as error:
        raise WrongInput([Problem("--grid", place, str(error), nearest(place, known))]) from None


def quantity(text: str, unit: str, flag: str, like: str | None = None) -> float:
    """A figure like `0.10 USD/kWh` in SI; WrongInput, with what it should be `like`, where it is none, or negative."""
    try:
        return _positive(parse(text, unit, like))
    except ValueError as error:
        raise WrongInput([Problem(flag, text, str(error))]) from None


def factor(text: str, flag: str) -> float:
    """A plain number; WrongInput where it is below 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < math.inf:
        raise WrongInput([Problem(flag, text, "must be a number of at least 1", "write it like 1.2")])
    return value


def _positive(value: float) -> float:
    if value < 0:
        raise ValueError("must not be negative")
    return value


@cache
def _table() -> dict[str, Any]:
    return read_toml(path_of("profiles/power", "carbon.toml"))


def bill(asked: Rates, devices: int, seconds: float, joules: float) -> Bill:
    """Of `devices` over `seconds`, whose machines take `joules`."""
    site, made = asked.pue * joules, _table()["embodied"]
    parts = [
        None if asked.price is None else asked.price * devices * seconds,
        None if asked.tariff is None else asked.tariff * site,
    ]
    stated = [part for part in parts if part is not None]
    return Bill(
        site, sum(stated) if stated else None, asked.grid * site, made["device"] * devices * seconds / made["seconds"]
    )
