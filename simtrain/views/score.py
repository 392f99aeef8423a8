"""Scores of published runs: as plain data, and as tables for people."""

from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from simtrain.estimate import HEADROOM, TERMS
from simtrain.validation.culprit import Suspect
from simtrain.validation.score import Prediction
from simtrain.views.document import FORMAT_VERSION
from simtrain.views.format import percent, seconds
from simtrain.views.layout import layout

SHOWN_TERMS: Final = 4
SUSPECTS: Final = 3


def score_document(
    predictions: list[Prediction], summary: dict[str, Any], peers: list[dict[str, Any]]
) -> dict[str, Any]:
    """What `simtrain score --json` prints: rows in the order of runs.csv, and figures."""
    return {
        "format_version": FORMAT_VERSION,
        "rows": [_row(p) for p in predictions],
        "summary": summary | {"peers": peers},
    }


def _row(p: Prediction) -> dict[str, Any]:
    """One row; `memory_bytes` counts what the row's source counts, `device_memory_bytes` everything."""
    if p.unsupported is not None or p.expressed is None:
        numbers = ("step_time_s", "step_time_low_s", "step_time_high_s", "memory_bytes", "device_memory_bytes", "fits")
        return {"id": p.row.id, **dict.fromkeys(numbers), "unsupported": p.unsupported, "assumed": []}
    return {
        "id": p.row.id,
        "step_time_s": p.step_time,
        "step_time_low_s": p.low,
        "step_time_high_s": p.high,
        "memory_bytes": p.memory,
        "device_memory_bytes": p.device_memory,
        "fits": p.fits,
        "unsupported": None,
        "assumed": list(p.expressed.assumed),
    }


def print_score(console: Console, summary: dict[str, Any], peers: list[dict[str, Any]]) -> None:
    """A line a source, the whole, peers beside it, and why rows are missing."""
    table = Table(title="Predicted against measured", title_justify="left", box=None)
    for heading in ("source", "rows", "expressed", "timed", "MAPE", "median", "p90", "bias", "scaled MAPE"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for heading in ("rank", "regret", "pick ran", "OOM right", "memory", "in interval"):
        table.add_column(heading, justify="right")
    for name, found in [*summary["sources"].items(), ("all", summary["all"])]:
        table.add_row(*_line(name, found), style="bold" if name == "all" else None)
    console.print(table)
    console.print(
        "scaled: after one factor for each source and GPU. rank, regret: means over sweeps (same source, model, GPUs, "
        "sequence, batch, format). pick ran: sweeps with failures whose first choice ran. memory: mean absolute "
        "error of the peak.",
        style="dim",
    )
    _print_verdicts(console, summary["all"])
    _print_peers(console, peers, set(summary["sources"]))
    missing = [(s, why, n) for s, found in summary["sources"].items() for why, n in found["unsupported"].items()]
    if missing:
        table = Table(title="Rows that cannot be expressed", title_justify="left", box=None)
        for heading in ("source", "rows", "reason"):
            table.add_column(heading, overflow="fold")
        for source, why, count in missing:
            table.add_row(source, str(count), why)
        console.print(table)


def _print_verdicts(console: Console, found: dict[str, Any]) -> None:
    """How many runs that ran out of memory are said to fit, by the bare limit and as plans are ranked."""
    if not found["oom"] or not found["oom"]["oom_said_fits"] + found["oom"]["oom_said_oom"]:
        return
    bare, planned = (
        f"{counts['oom_said_fits']} of {counts['oom_said_fits'] + counts['oom_said_oom']}, "
        f"{percent(counts['accuracy'])} of all verdicts right"
        for counts in (found["oom"], found["oom_as_planned"])
    )
    console.print(
        f"Out of memory but said to fit: {bare}; with the {percent(HEADROOM)} that ranked plans leave free: {planned}"
    )


def _line(name: str, found: dict[str, Any]) -> list[str]:
    time, scaled, memory, oom = (found[key] or {} for key in ("time", "time_after_scale", "memory", "oom"))
    return [
        name,
        str(found["rows"]),
        _share(found["coverage"]),
        str(time.get("count", 0)),
        *(_share(time.get(key)) for key in ("mape", "median", "p90", "bias")),
        _share(scaled.get("mape")),
        "-" if found["rank"] is None else f"{found['rank']:.3f}",
        _share(found["regret"]),
        _share(found["pick_ran"]),
        _share(oom.get("accuracy")),
        _share(memory.get("mape")),
        _share(found["interval_coverage"]),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else percent(value)


def _print_peers(console: Console, peers: list[dict[str, Any]], sources: set[str]) -> None:
    table = Table(title="Peers on the same sources", title_justify="left", box=None)
    for heading in ("peer", "", "source", "figures"):
        table.add_column(heading)
    for peer in peers:
        for source in sorted(sources & set(peer)):
            shown = ", ".join(
                f"{key.replace('_', ' ')} {value if isinstance(value, str) or key == 'rank' else percent(value)}"
                for key, value in peer[source].items()
            )
            table.add_row(peer["name"], peer["kind"], source, shown)
    if table.row_count:
        console.print(table)


def worst(predictions: list[Prediction], count: int) -> list[Prediction]:
    """The timed rows whose predicted time is off by the largest factor, worst first."""
    off = [(abs(float(np.log(p.ratio))), p) for p in predictions if np.isfinite(p.ratio)]
    return [p for _, p in sorted(off, key=lambda item: -item[0])[:count]]


def worst_document(rows: list[Prediction], suspects: list[list[Suspect]]) -> list[dict[str, Any]]:
    """The worst rows and the terms that could explain each, likeliest first."""
    return [
        {
            "id": p.row.id,
            "measured_s": p.row.step_s,
            "predicted_s": p.step_time,
            "suspects": [vars(suspect) | {"alone": suspect.alone} for suspect in found[:SUSPECTS]],
        }
        for p, found in zip(rows, suspects, strict=True)
    ]


def print_worst(console: Console, rows: list[Prediction], suspects: list[list[Suspect]]) -> None:
    """The worst rows with layout, largest terms and the term most likely off."""
    table = Table(title="Largest errors", title_justify="left", box=None)
    table.add_column("row", no_wrap=True)
    for heading in ("measured", "predicted", "factor", "most likely off", "needs", "neighbours"):
        table.add_column(heading, overflow="fold")
    for heading in ("layout", "largest terms"):
        table.add_column(heading, overflow="fold")
    for p, found in zip(rows, suspects, strict=True):
        assert p.expressed is not None
        assert p.terms is not None
        assert p.row.step_s is not None
        largest = np.argsort(-p.terms)[:SHOWN_TERMS]
        table.add_row(
            p.row.id,
            seconds(p.row.step_s),
            seconds(p.step_time),
            f"{p.row.step_s / p.step_time:.2f}",
            *_culprit(found),
            layout(p.expressed.plan),
            ", ".join(f"{TERMS[i]} {seconds(float(p.terms[i]))}" for i in largest),
        )
    console.print(table)
    console.print(
        "factor: measured over predicted. most likely off: the term (with its share of the step) that, times what it "
        "needs, gives the measured time with the least strain on what is known of it and on the runs that differ in "
        "one setting (neighbours: how many the same factor brings nearer). not it alone: beyond three standard "
        "deviations.",
        style="dim",
    )


def _culprit(found: list[Suspect]) -> list[str]:
    """The likeliest suspect: term and share, factor, neighbours' word."""
    if not found:
        return ["no term", "-", "-"]
    first = found[0]
    heard = f"{first.agree} of {first.neighbours}" if first.neighbours else "none"
    needs = f"x {first.factor:.2f}" + ("" if first.alone else ", not it alone")
    return [f"{first.term} ({percent(first.share)})", needs, heard]
