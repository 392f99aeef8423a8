"""A plan's energy: as plain data, as tables, as one self-contained HTML page, and its clocks as CSV."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simtrain.search.clocks import at_clock, clocks_of
from simtrain.search.frontier import Frontier
from simtrain.search.rounding import Point
from simtrain.study.bill import Bill, Rates, bill
from simtrain.study.energy import EnergyPlan, Setting
from simtrain.study.run import run
from simtrain.study.shift import cleanest_start
from simtrain.timeline.graph import COMPUTE, KINDS
from simtrain.timeline.order import NONE
from simtrain.views.document import FORMAT_VERSION
from simtrain.views.format import money, percent, seconds
from simtrain.views.layout import layout
from simtrain.views.plotted import write_page
from simtrain.views.tables import asked

Array = NDArray[np.float64]
GRAINS = ("pass", "part", "stretch", "stage")
"""What has a clock of its own: every pass, a stage's phase in a part of the step, all its passes there, a stage."""
KWH = 3.6e6
MHZ = 1e6


def settings(found: EnergyPlan) -> dict[str, Setting]:
    """The clocks of every grain."""
    return dict(zip(GRAINS, (found.chosen, found.few, found.stretch, found.steady), strict=True))


def energy_document(found: EnergyPlan, rates: Rates, grain: str) -> dict[str, Any]:
    """The answer; a plan file too, with the clocks of one grain."""
    job, base = found.job, found.devices * found.base.joules
    totals = run(job, found.plan.global_batch, found.base.seconds)
    return {
        "format_version": FORMAT_VERSION,
        "job": job.model_dump(mode="json"),
        "plans": [
            {
                "rank": 1,
                "plan": found.plan.model_dump(mode="json"),
                "step_time_s": settings(found)[grain].seconds,
                "frequency_plan": {"clock_for_each": grain, "passes": list(_passes(settings(found)[grain]))},
            }
        ],
        "power_profile": found.grounds.power,
        "power_evidence": found.grounds.evidence.value,
        "energy_off_by": found.grounds.off,
        "site": site(rates),
        "steps": None if totals is None else totals.steps,
        "deadline_s": found.deadline,
        "largest_clocks": {
            "step_time_s": found.base.seconds,
            "energy_j": base,
            "bill": _bill(bill(rates, job.devices, *found.whole(found.base.seconds, base))),
        },
        "clocks": {
            name: {
                "step_time_s": setting.seconds,
                "energy_j": setting.joules,
                "saved": found.saved(setting),
                "switches": setting.switches,
                "gap_to_bound": setting.gap,
                "late_s": setting.late,
                "bill": _bill(bill(rates, job.devices, *found.whole(setting.seconds, setting.joules))),
            }
            for name, setting in settings(found).items()
        },
        "thriftiest": _point(found, found.fine, found.fine.thriftiest),
        "frontier": [_point(found, found.fine, point) for point in found.fine.points],
    }


def powered(profile: str, evidence: str, off: float | None) -> str:
    """What joules rest on, and how far they may be off."""
    return f"{profile} ({evidence})" + ("" if off is None else f", energy to within {100 * off:.0f} %")


def site(rates: Rates) -> dict[str, Any]:
    """What the site asks for, and who says so."""
    return {
        "pue": rates.pue,
        "pue_from": rates.pue_from,
        "grid_kg_per_kwh": rates.grid * KWH,
        "grid_from": rates.grid_from,
        "tariff_usd_per_kwh": None if rates.tariff is None else rates.tariff * KWH,
        "price_usd_per_device_hour": None if rates.price is None else rates.price * 3600,
    }


def sited(of: dict[str, Any]) -> str:
    """The site in a line."""
    grid = f"{1e3 * of['grid_kg_per_kwh']:.0f} g CO2e/kWh ({of['grid_from']})"
    return f"PUE {of['pue']:g} ({of['pue_from']}), {grid}"


def one_clock(found: EnergyPlan, clock: float) -> dict[str, float]:
    """All passes at a clock (Hz); WrongInput where the device does not have it."""
    on = found.fine.tradeoff
    choice = at_clock(on, clock)
    length = on.duration(on.seconds(choice))
    return {"clock_mhz": clock / MHZ, "step_time_s": length, "energy_j": found.devices * on.joules(choice, length)}


def shifted(series: Array, document: dict[str, Any]) -> dict[str, float]:
    """When a run is cleanest, and its carbon then and at once; the document is that of a run."""
    row = document["clocks"][document["plans"][0]["frequency_plan"]["clock_for_each"]]
    hour, best, now = cleanest_start(series, document["steps"] * row["step_time_s"])
    joules = document["steps"] * row["bill"]["energy_kwh"] * KWH
    return {"hour": hour, "carbon_kg": best * joules, "carbon_at_once_kg": now * joules}


def _point(found: EnergyPlan, of: Frontier, point: Point) -> dict[str, float]:
    return {
        "step_time_s": point.seconds,
        "energy_j": found.devices * point.joules,
        "bound_j": found.devices * float(of.least(point.seconds)[0]),
    }


def _bill(of: Bill) -> dict[str, float | None]:
    return {
        "energy_kwh": of.joules / KWH,
        "cost_usd": of.money,
        "carbon_kg": of.carbon,
        "embodied_carbon_kg": of.embodied,
    }


def _passes(setting: Setting) -> Iterator[dict[str, Any]]:
    graph, clock = setting.on.graph, clocks_of(setting.on, setting.point.choice)
    for rank in range(graph.ranks):
        stream = graph.stream(COMPUTE, rank)
        for place, at in enumerate(range(stream.start, stream.stop)):
            if setting.on.group[at] != NONE:
                yield {
                    "stage": rank,
                    "place": place,
                    "phase": KINDS[graph.kind[at]],
                    "chunk": int(graph.chunk[at]),
                    "microbatch": int(graph.microbatch[at]),
                    "clock_mhz": float(clock[at] / MHZ),
                    "seconds": float(setting.lengths[at]),
                }


def clock_lines(document: dict[str, Any]) -> Iterator[str]:
    """The frequency plan as CSV, a line a pass in the order the stage runs them; simulate --durations reads it."""
    passes = document["plans"][0]["frequency_plan"]["passes"]
    yield ",".join(passes[0]) + "\n"
    for row in passes:
        yield ",".join(f"{value:.9g}" if isinstance(value, float) else str(value) for value in row.values()) + "\n"


def print_energy(console: Console, found: EnergyPlan, document: dict[str, Any]) -> None:
    """What clocks save, and the frontier."""
    console.print(asked(found.job))
    largest, grains = document["largest_clocks"], document["clocks"]
    facts = Table.grid(padding=(0, 2))
    facts.add_row("layout", layout(found.plan))
    facts.add_row("largest clocks", f"{seconds(largest['step_time_s'])} a step, {_energy(largest['energy_j'])}")
    best = document["thriftiest"]
    facts.add_row("least energy", f"{seconds(best['step_time_s'])} a step, {_energy(best['energy_j'])}")
    facts.add_row(
        "power from", powered(document["power_profile"], document["power_evidence"], document["energy_off_by"])
    )
    facts.add_row("site", sited(document["site"]))
    console.print(Panel(facts, title="Energy of a step", title_align="left", expand=False))
    table = Table(title=f"Within {seconds(document['deadline_s'])}", title_justify="left", box=None, pad_edge=True)
    for name in ("a clock for each", "step", "energy", "saved", "switches", "over the bound", "cost", "carbon"):
        table.add_column(name)
    for name, row in grains.items():
        table.add_row(
            name,
            seconds(row["step_time_s"]) + ("*" if row["late_s"] else ""),
            _energy(row["energy_j"]),
            percent(row["saved"]),
            str(row["switches"]),
            _over(row["gap_to_bound"]),
            money(row["bill"]["cost_usd"]),
            carbon(row["bill"]["carbon_kg"]),
        )
    console.print(table)
    late = [f"{name} {seconds(row['late_s'])}" for name, row in grains.items() if row["late_s"]]
    if late:
        console.print(f"* beyond the deadline, as new clocks come late: {', '.join(late)}")
    if document["steps"] is not None:
        console.print(_run(document))
    if "start" in document:
        start = document["start"]
        console.print(
            f"cleanest start: in {start['hour']} hours, {carbon(start['carbon_kg'])} CO2e instead of "
            f"{carbon(start['carbon_at_once_kg'])} at once"
        )
    if "one_clock" in document:
        one = document["one_clock"]
        console.print(
            f"all at {one['clock_mhz']:.0f} MHz: {seconds(one['step_time_s'])} a step, {_energy(one['energy_j'])}"
        )
    points = Table(title="Less energy for more time", title_justify="left", box=None, pad_edge=True)
    for name in ("step", "energy", "over the bound"):
        points.add_column(name)
    rows = document["frontier"]
    for at in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 8)).astype(int)).tolist():
        row = rows[at]
        over = row["energy_j"] / row["bound_j"] - 1
        points.add_row(seconds(row["step_time_s"]), _energy(row["energy_j"]), _over(over))
    console.print(points)


def _run(document: dict[str, Any]) -> Text:
    steps, row = document["steps"], document["clocks"][document["plans"][0]["frequency_plan"]["clock_for_each"]]
    before, after = document["largest_clocks"]["bill"], row["bill"]
    spent = "" if after["cost_usd"] is None else f", {money(steps * after['cost_usd'])}"
    return Text(
        f"run: {steps * after['energy_kwh'] / 1e3:,.1f} MWh at the meter instead of "
        f"{steps * before['energy_kwh'] / 1e3:,.1f}{spent}, {carbon(steps * after['carbon_kg'])} CO2e and "
        f"{carbon(steps * after['embodied_carbon_kg'])} for making the devices"
    )


def _over(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:.2f} %"


def _energy(joules: float) -> str:
    return f"{joules / 1e6:.4g} MJ" if joules >= 1e6 else f"{joules / 1e3:.4g} kJ"


def carbon(mass: float) -> str:
    """CO2e in tonnes or kilograms."""
    return f"{mass / 1e3:,.1f} t" if mass >= 1e3 else f"{mass:.3g} kg"


def write_frontier(path: Path, found: EnergyPlan, document: dict[str, Any]) -> None:
    """Plot the frontier, its bound and the clocks of every grain. Needs plotly (see views.scatter.plotted)."""
    import plotly.graph_objects as plot

    figure = plot.Figure()
    rows = document["frontier"]
    times = [row["step_time_s"] for row in rows]
    figure.add_scatter(
        x=times, y=[row["energy_j"] for row in rows], mode="lines+markers", name="clocks that can be set"
    )
    figure.add_scatter(x=times, y=[row["bound_j"] for row in rows], mode="lines", name="bound", line={"dash": "dot"})
    named = {"largest clocks": document["largest_clocks"]} | {
        f"a clock for each {name}": row for name, row in document["clocks"].items()
    }
    for name, row in named.items():
        figure.add_scatter(x=[row["step_time_s"]], y=[row["energy_j"]], mode="markers", name=name, marker={"size": 11})
    figure.update_layout(
        title=f"Energy of a step: {found.job.model.name}, {layout(found.plan)}",
        xaxis={"title": "step (s)"},
        yaxis={"title": "energy (J)"},
        template="plotly_white",
    )
    write_page(path, figure)
