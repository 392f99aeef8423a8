"""What a calibration found and how far off unseen sweeps are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from simtrain.validation.calibrate import Fitted, Measured
from simtrain.views.document import FORMAT_VERSION
from simtrain.views.format import percent


def by_source(runs: list[Measured], fitted: Fitted) -> list[dict[str, Any]]:
    """Mean absolute errors of each source, fitted and left out, and of all runs."""
    sources = np.array([run.source for run in runs])
    rows = []
    for name in [*sorted(set(sources)), "all"]:
        mine = (sources == name) | (name == "all")
        seen, unseen = (np.abs(np.expm1(errors[mine])) for errors in (fitted.error, fitted.left_out))
        rows.append(
            {
                "source": str(name),
                "runs": int(mine.sum()),
                "fitted_mape": float(seen.mean()),
                "left_out_mape": float(unseen.mean()),
                "left_out_median": float(np.median(unseen)),
                "left_out_p90": float(np.quantile(unseen, 0.9)),
            }
        )
    return rows


def calibration_document(
    runs: list[Measured], fitted: Fitted, content: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The fit as plain data."""
    files = {name.removesuffix(".toml"): document for name, document in content.items()}
    return {"format_version": FORMAT_VERSION, "sources": by_source(runs, fitted), **files}


def print_calibration(console: Console, runs: list[Measured], fitted: Fitted) -> None:
    """Errors by source, then the numbers."""
    table = Table(title="Step-time error (left out: predicted from the other sweeps)", title_justify="left", box=None)
    for heading in ("source", "runs", "fitted", "left out", "median", "90 % within"):
        table.add_column(heading, justify="left" if heading == "source" else "right")
    for row in by_source(runs, fitted):
        errors = (row["fitted_mape"], row["left_out_mape"], row["left_out_median"], row["left_out_p90"])
        table.add_row(row["source"], str(row["runs"]), *map(percent, errors))
    console.print(table)
    for kind, found in fitted.numbers.items():
        title = f"Fitted numbers by {kind}, as factors on what they start from"
        numbers = Table(title=title, title_justify="left", box=None)
        numbers.add_column("")
        for heading in next(iter(found.values())):
            numbers.add_column(heading, justify="right")
        for name, values in found.items():
            numbers.add_row(name, *(f"{value:.3f}" for value in values.values()))
        console.print(numbers)
