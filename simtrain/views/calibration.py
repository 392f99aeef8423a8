"""What a calibration found and how far off unseen sweeps are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from simtrain.validation.calibrate import NUMBERS, Fitted, Measured
from simtrain.validation.memory_fit import Allocator
from simtrain.validation.own_runs import OwnFit
from simtrain.views.document import FORMAT_VERSION
from simtrain.views.format import percent, seconds


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


def by_stack(memory: Sequence[Allocator]) -> list[dict[str, Any]]:
    """What each stack's allocator loses, and errors of memory figures and verdicts with their sweep left out."""
    rows = []
    for found in memory:
        figures = np.abs(np.expm1(found.error[~np.isnan(found.error)]))
        rows.append(
            {
                "stack": found.of.stack,
                "runs": len(found.of.ran),
                "figures": len(figures),
                "fragmentation": found.share,
                "left_out_mape": float(figures.mean()) if len(figures) else None,
                "left_out_accuracy": float(found.right.mean()),
                "ran_out": int((~found.of.ran).sum()),
                "said_fits": int((~found.of.ran & ~found.right).sum()),
            }
        )
    return rows


def calibration_document(
    runs: list[Measured], fitted: Fitted, memory: Sequence[Allocator], content: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The fit as plain data."""
    files = {name.removesuffix(".toml"): document for name, document in content.items()}
    return {"format_version": FORMAT_VERSION, "sources": by_source(runs, fitted), "memory": by_stack(memory), **files}


def print_calibration(console: Console, runs: list[Measured], fitted: Fitted, memory: Sequence[Allocator]) -> None:
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
        for heading in NUMBERS[kind]:
            numbers.add_column(heading, justify="right")
        for name, values in found.items():
            numbers.add_row(name, *(f"{values[number]:.3f}" if number in values else "-" for number in NUMBERS[kind]))
        console.print(numbers)
    table = Table(title="Memory an allocator loses, and errors left out", title_justify="left", box=None)
    headings = ("stack", "runs", "share lost", "figures", "their error", "verdicts right", "ran out", "said to fit")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "stack" else "right")
    for row in by_stack(memory):
        error = "-" if row["left_out_mape"] is None else percent(row["left_out_mape"])
        counts = [str(row[name]) for name in ("ran_out", "said_fits")]
        shown = (str(row["runs"]), percent(row["fragmentation"]), str(row["figures"]), error)
        table.add_row(row["stack"], *shown, percent(row["left_out_accuracy"]), *counts)
    console.print(table)


def own_document(found: Sequence[OwnFit]) -> dict[str, Any]:
    """Scales of a user's runs as plain data."""
    return {
        "format_version": FORMAT_VERSION,
        "scales": [
            fit.scale.model_dump(mode="json")
            | {name: _mape(errors) for name, errors in _errors(fit).items()}
            | {
                "of": [
                    {
                        "id": run.name,
                        "measured_s": run.step_time,
                        "raw_s": run.predicted,
                        "scaled_s": run.step_time * float(np.exp(after)),
                        "left_out_s": run.step_time * float(np.exp(left_out)),
                    }
                    for run, after, left_out in zip(fit.runs, fit.after, fit.left_out, strict=True)
                ]
            }
            for fit in found
        ],
    }


def print_own(console: Console, found: Sequence[OwnFit]) -> None:
    """A scale and its errors, then its runs."""
    for fit in found:
        scale, errors = fit.scale, {name: percent(_mape(value)) for name, value in _errors(fit).items()}
        console.print(f"{scale.stack} on {scale.device}: x {scale.factor.value:.3f} by {scale.runs} runs", style="bold")
        console.print(
            f"mean error {errors['raw_mape']} raw, {errors['scaled_mape']} with the scale, {errors['left_out_mape']} "
            f"each by the others; 90 % of further runs expected within {percent(scale.p90)}"
        )
        table = Table(box=None)
        for heading in ("run", "measured", "raw", "scaled", "by the others"):
            table.add_column(heading, justify="left" if heading == "run" else "right")
        for run, *errors_of in zip(fit.runs, fit.raw, fit.after, fit.left_out, strict=True):
            predicted = (seconds(run.step_time * float(np.exp(error))) for error in errors_of)
            table.add_row(run.name, seconds(run.step_time), *predicted)
        console.print(table)


def _errors(fit: OwnFit) -> dict[str, NDArray[np.float64]]:
    return {"raw_mape": fit.raw, "scaled_mape": fit.after, "left_out_mape": fit.left_out}


def _mape(errors: NDArray[np.float64]) -> float:
    return float(np.abs(np.expm1(errors)).mean())
