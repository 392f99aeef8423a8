"""Layouts weighed by time, money, energy and carbon, as plain data and as tables."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from simtrain.spec.plan import Plan
from simtrain.study.fleet import Fleet
from simtrain.study.objective import Aim, Option, Weighed
from simtrain.views.energy import KWH, MHZ, carbon, powered, site, sited
from simtrain.views.format import kilowatts, money, seconds
from simtrain.views.layout import layout

MOST = 8
"""Rows of a table."""


def objective_document(found: Weighed) -> dict[str, Any]:
    """The answer."""
    return {
        "objective": found.aim.objective,
        "totals_of": "run" if found.per_run else "step",
        "power_profile": found.law.power,
        "power_evidence": found.law.evidence.value,
        "energy_off_by": found.law.off,
        "site": site(found.site),
        "ranked": [_row(option) for option in found.ranked],
        "pareto": [_row(option) for option in found.front],
        "least": {
            "time_s": found.least.seconds,
            "cost_usd": found.least.money,
            "mean_power_w": found.least.power,
        },
    }


def sizes_document(found: Fleet) -> list[dict[str, Any]]:
    """The best of every size at largest clocks."""
    return [_row(option) for option in found.sizes]


def _row(option: Option) -> dict[str, Any]:
    return {
        "plan": option.plan.model_dump(mode="json"),
        "devices": option.devices,
        "step_time_s": option.point.seconds,
        "largest_clocks": not option.clocks,
        "clocks_mhz": [clock / MHZ for clock in option.clocks],
        "time_s": option.seconds,
        "energy_j": option.bill.joules,
        "cost_usd": option.bill.money,
        "carbon_kg": option.bill.carbon,
        "embodied_carbon_kg": option.bill.embodied,
        "mean_power_w": option.power,
    }


def ranks(document: dict[str, Any]) -> dict[Plan, int]:
    """Places of plans in a plan file."""
    return {Plan.model_validate(row["plan"]): row["rank"] for row in document["plans"]}


def print_objective(console: Console, answer: dict[str, Any]) -> None:
    """The best of some sizes, the best options by the objective, and those no other beats in all."""
    document, sizes, places = answer["objective"], answer.get("sizes", []), ranks(answer)
    of, best = document["totals_of"], document["ranked"]
    devices = answer["job"]["devices"]

    def table(title: str, rows: list[dict[str, Any]]) -> Table:
        found = Table(title=title, title_justify="left", box=None, pad_edge=True)
        for name in ("--rank", "devices", "layout", "clocks", "step", "time", "cost", "energy", "carbon", "power"):
            found.add_column(name)
        for row in rows:
            place = places.get(Plan.model_validate(row["plan"])) if row["devices"] == devices else None
            found.add_row("-" if place is None else str(place), *_cells(row))
        return found

    if sizes:
        winners = [at for at, row in enumerate(sizes) if row["devices"] == best[0]["devices"]]
        title = f"The best of {len(sizes)} sizes, largest clocks (a {of})"
        console.print(table(title if len(sizes) <= MOST else f"{title}, some of them", _few(sizes, winners)))
    console.print(table(f"Best by {document['objective']}, clocks chosen too (a {of})", best[:MOST]))
    rows = document["pareto"]
    console.print(table(f"None better in time, cost, energy and carbon (front of {len(rows)})", _few(rows, [])))
    grounds = powered(document["power_profile"], document["power_evidence"], document["energy_off_by"])
    console.print(f"power from {grounds}; {sited(document['site'])}; carbon with making the devices")


def taken(path: Path, document: dict[str, Any], best: Option) -> str:
    """How an option is taken out of the plan file, clocks included."""
    rank = ranks(document)[best.plan]
    if not best.clocks:
        return f"simtrain simulate {path} --rank {rank}"
    within = math.ceil(best.point.seconds * 1e3) / 1e3
    return f'simtrain energy {path} --rank {rank} --deadline "{within:.3f} s" --clocks stage'


def unmet(aim: Aim, document: dict[str, Any]) -> str:
    """Why nothing keeps to the limits: the least there is of what each limits."""
    of, least = document["totals_of"], document["least"]
    stated = (
        ("--deadline", aim.limits.seconds, f"the fastest {of} takes", least["time_s"], seconds),
        ("--budget", aim.limits.money, f"the cheapest {of} costs", least["cost_usd"], money),
        ("--power-cap", aim.limits.power, "the least power is", least["mean_power_w"], kilowatts),
    )
    broken = [
        f"{what} {show(there)} ({flag} {show(limit)})"
        for flag, limit, what, there, show in stated
        if limit is not None and there is not None and there > limit
    ]
    return "; ".join(broken) or "each limit can be kept to alone, not all of them at once"


def _few(rows: list[dict[str, Any]], kept: list[int]) -> list[dict[str, Any]]:
    """MOST of the rows, evenly, and those at `kept`."""
    evenly = np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int).tolist()
    return [rows[at] for at in sorted({*evenly, *kept})]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{row['devices']:,}",
        layout(Plan.model_validate(row["plan"])),
        "largest" if row["largest_clocks"] else _span(row["clocks_mhz"]),
        seconds(row["step_time_s"]),
        seconds(row["time_s"]),
        money(row["cost_usd"]),
        f"{row['energy_j'] / KWH / 1e3:,.4g} MWh",
        carbon(row["carbon_kg"] + row["embodied_carbon_kg"]),
        kilowatts(row["mean_power_w"]),
    )


def _span(clocks: list[float]) -> str:
    least, most = min(clocks), max(clocks)
    return f"{most:.0f} MHz" if least == most else f"{least:.0f}-{most:.0f} MHz"
