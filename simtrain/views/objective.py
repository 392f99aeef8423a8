"""Layouts weighed by time, money, energy and carbon, as plain data and as tables."""

from typing import Any

from rich.console import Console
from rich.table import Table

from simtrain.spec.plan import Plan
from simtrain.study.fleet import Fleet
from simtrain.study.objective import Option, Weighed
from simtrain.views.energy import KWH, carbon, powered, site, sited
from simtrain.views.format import money, seconds
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
    }


def sizes_document(found: Fleet) -> list[dict[str, Any]]:
    """The best of every size at largest clocks."""
    return [_row(option) for option in found.sizes]


def _row(option: Option) -> dict[str, Any]:
    return {
        "plan": option.plan.model_dump(mode="json"),
        "devices": option.devices,
        "step_time_s": option.point.seconds,
        "largest_clocks": option.largest,
        "time_s": option.seconds,
        "energy_j": option.bill.joules,
        "cost_usd": option.bill.money,
        "carbon_kg": option.bill.carbon,
        "embodied_carbon_kg": option.bill.embodied,
        "mean_power_w": option.power,
    }


def print_objective(console: Console, document: dict[str, Any], sizes: list[dict[str, Any]]) -> None:
    """The best of some sizes, the best options by the objective, and those no other beats in all."""
    of = document["totals_of"]
    if sizes:
        console.print(_table(f"The best of {len(sizes)} sizes, largest clocks (a {of})", _few(sizes)))
    console.print(_table(f"Best by {document['objective']}, clocks chosen too (a {of})", document["ranked"][:MOST]))
    rows = document["pareto"]
    console.print(_table(f"None better in time, cost, energy and carbon (front of {len(rows)})", _few(rows)))
    grounds = powered(document["power_profile"], document["power_evidence"], document["energy_off_by"])
    console.print(f"power from {grounds}; {sited(document['site'])}; carbon with making the devices")


def _few(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows if len(rows) <= MOST else [rows[round(at * (len(rows) - 1) / (MOST - 1))] for at in range(MOST)]


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=True)
    for name in ("devices", "layout", "clocks", "step", "time", "cost", "energy", "carbon", "power"):
        table.add_column(name)
    for row in rows:
        table.add_row(
            f"{row['devices']:,}",
            layout(Plan.model_validate(row["plan"])),
            "largest" if row["largest_clocks"] else "lowered",
            seconds(row["step_time_s"]),
            seconds(row["time_s"]),
            money(row["cost_usd"]),
            f"{row['energy_j'] / KWH / 1e3:,.4g} MWh",
            carbon(row["carbon_kg"] + row["embodied_carbon_kg"]),
            f"{row['mean_power_w'] / 1e3:,.4g} kW",
        )
    return table
