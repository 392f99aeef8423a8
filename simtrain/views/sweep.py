"""A sweep's points as plain data, as CSV, as a table and as a page."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from simtrain.study.points import Point
from simtrain.views import page
from simtrain.views.document import FORMAT_VERSION
from simtrain.views.format import count, gib, money, percent, seconds

Document = dict[str, Any]


def sweep_document(points: Sequence[Point], rows: Sequence[dict[str, Any]]) -> Document:
    """One entry a point: what was set, then the best plan (views.point)."""
    together = [point.settings | row for point, row in zip(points, rows, strict=True)]
    return {"format_version": FORMAT_VERSION, "varied": list(points[0].settings), "points": together}


def csv_pieces(document: Document) -> Iterator[str]:
    """The points as CSV, a line a piece; an empty cell is None."""
    line = io.StringIO()
    writer = csv.DictWriter(line, list(document["points"][0]), lineterminator="\n")
    writer.writeheader()
    for row in document["points"]:
        yield line.getvalue()
        line.seek(0)
        line.truncate()
        writer.writerow(row)
    yield line.getvalue()


STEP_TIME: Final = ("step_time_low_s", "step_time_high_s")
STEP_ENERGY: Final = ("step_energy_low_j", "step_energy_high_j")
SHOWN: Final[dict[str, Callable[[Any], str]]] = {
    "layout": str,
    "step_time_s": seconds,
    "tokens_per_s": count,
    "mfu": percent,
    "memory_bytes": gib,
    "run_time_s": seconds,
    "run_cost_usd": money,
}
"""Columns people see, and how they are written."""


def cells(document: Document, ends: bool = False) -> tuple[list[str], list[list[str]]]:
    """Headings and rows for people: what was set, and SHOWN where any point has it, with `ends` its interval too."""
    shown = [name for name in SHOWN if name == "layout" or any(row[name] is not None for row in document["points"])]
    headings = [*document["varied"], *(name.rsplit("_", 1)[0] if name != "mfu" else "MFU" for name in shown)]
    headings = [heading.replace("_", " ").replace("tokens per", "tokens/s") for heading in headings]
    rows = []
    for row in document["points"]:
        set_to = [row[name] for name in document["varied"]]
        found = [_cell(row, name, ends) for name in shown]
        rows.append([*set_to, *(found if row["fits"] else ["nothing fits", *found[1:]])])
    return headings, rows


def _cell(row: dict[str, Any], name: str, ends: bool) -> str:
    if row[name] is None:
        return "-"
    stem, _, unit = name.rpartition("_")
    low, high = (row.get(f"{stem}_{end}_{unit}") for end in ("low", "high"))
    between = f" ({SHOWN[name](low)} to {SHOWN[name](high)})" if ends and low is not None and high is not None else ""
    return SHOWN[name](row[name]) + between


def print_sweep(console: Console, document: Document) -> None:
    """A line a point."""
    headings, rows = cells(document)
    table = Table(title="Best plan at every point", title_justify="left", box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def sweep_page(document: Document) -> Iterator[str]:
    """The points as one self-contained page: speed and time or cost over what was varied, and the table."""
    axis, series = _axis(document["varied"], document["points"])
    cost = "run_cost_usd" if any(row["run_cost_usd"] for row in document["points"]) else "step_time_s"
    energy = "run_energy_j" if any(row["run_energy_j"] for row in document["points"]) else "step_energy_j"
    title = f"{len(document['points'])} points: " + ", ".join(document["varied"])
    yield from page.page(
        title,
        "the best plan at every point, as simtrain predicts it; bars are its interval",
        [
            page.section("speed", "Tokens a second", _lines("speed-figure", document, axis, series, "tokens_per_s")),
            page.section(
                "cost",
                "Cost of the run, USD" if cost == "run_cost_usd" else "Seconds a step",
                _lines("cost-figure", document, axis, series, cost),
            ),
            page.section(
                "energy",
                "Energy of the run at the meter, J" if energy == "run_energy_j" else "Energy of a step at the meter, J",
                _lines("energy-figure", document, axis, series, energy),
            ),
            page.section("points", "Points", page.table(*cells(document, ends=True))),
        ],
    )


def _axis(varied: Sequence[str], rows: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """What runs along the axis, and what tells lines apart."""
    axis = "gpus" if "gpus" in varied else max(varied, key=lambda name: len({row[name] for row in rows}))
    return axis, [name for name in varied if name != axis]


def _lines(name: str, document: Document, axis: str, series: Sequence[str], value: str) -> str:
    import plotly.graph_objects as plot

    lines: dict[str, list[dict[str, Any]]] = {}
    for row in document["points"]:
        if row["fits"] and row[value] is not None:
            lines.setdefault(", ".join(row[name] for name in series) or value, []).append(row)
    drawn = plot.Figure()
    for line, rows in lines.items():
        inverse, energy = value == "tokens_per_s", value.endswith("energy_j")
        middle, least, most = ("step_energy_j", *STEP_ENERGY) if energy else ("step_time_s", *STEP_TIME)
        least, most = (most, least) if inverse else (least, most)
        power = -1 if inverse else 1
        drawn.add_scatter(
            x=[row["devices" if axis == "gpus" else axis] for row in rows],
            y=[row[value] for row in rows],
            name=line,
            mode="lines+markers",
            error_y={
                "array": [row[value] * ((row[most] / row[middle]) ** power - 1) for row in rows],
                "arrayminus": [row[value] * (1 - (row[least] / row[middle]) ** power) for row in rows],
                "thickness": 1,
            },
            text=[f"{line}<br>{row['layout']}<br>MFU {percent(row['mfu'])}" for row in rows],
            hovertemplate="%{text}<br>%{x}: %{y:.4g}<extra></extra>",
        )
    if axis == "gpus":
        counts = sorted({row["devices"] for row in document["points"]})
        drawn.update_xaxes(type="log", tickvals=counts, ticktext=[f"{number:,}" for number in counts])
    drawn.update_xaxes(title=axis)
    drawn.update_yaxes(type="log")
    return page.figure(name, drawn, 420 + 18 * len(lines))
