"""A validation record as data and as a table."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.validation.compare import Row
from simtrain.validation.predict import Prediction
from simtrain.validation.refit import RATE_OF, Refit
from simtrain.views.format import seconds

FORMAT_VERSION: Final = 1


def record(
    job: Job,
    plan: Plan,
    prediction: Prediction,
    rows: Sequence[Row],
    status: str,
    why: str,
    ranks: list[dict[str, Any]],
    stage: int | None,
) -> dict[str, Any]:
    """What is kept of a run: job and plan, prediction beside measurement, and what every rank recorded."""
    return {
        "format_version": FORMAT_VERSION,
        "status": status,
        "why": why,
        "job": job.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json"),
        "slice_stage": stage,
        **predicted(prediction),
        "terms": [
            {"name": row.name, "unit": row.unit, "predicted": row.predicted, "measured": row.measured, "note": row.note}
            for row in rows
        ],
        "ranks": ranks,
    }


def predicted(prediction: Prediction) -> dict[str, Any]:
    """What is said of a run before it."""
    return {
        "predicted_step_time_s": prediction.step_time,
        "predicted_terms_s": prediction.seconds,
        "predicted_memory_by_class_bytes": prediction.memory,
        "predicted_energy_j": prediction.joules,
        "predicted_energy_evidence": prediction.joules_evidence,
    }


def print_record(console: Console, document: dict[str, Any]) -> None:
    """The terms, and what went wrong if something did."""
    if document["status"] != "ok":
        console.print(f"{document['status']}: {document['why']}")
    table = Table("", "predicted", "measured", "error", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for term in document["terms"]:
        predicted, measured = term["predicted"], term["measured"]
        error = f"{predicted / measured - 1:+.1%}" if predicted is not None and measured else "-"
        table.add_row(
            f"{term['name']} ({term['unit']})", _shown(predicted, term["unit"], "-"),
            _shown(measured, term["unit"], "not measured"), error,
        )  # fmt: skip
    console.print(table)
    for term in document["terms"]:
        if term["note"]:
            console.print(f"{term['name']}: {term['note']}")


def _shown(value: float | None, unit: str, without: str) -> str:
    if value is None:
        return without
    if unit == "s":
        return seconds(value)
    return f"{value / 1e6:,.2f} MB" if unit == "B" else f"{value:,.3g}" if unit == "J" else f"{value:,.0f}"


def refit_document(found: Sequence[Refit]) -> dict[str, Any]:
    """New rates and step-time errors, device by device."""
    return {
        "format_version": FORMAT_VERSION,
        "devices": [
            {
                "profile": str(one.profile),
                "rates_before": {name: getattr(one.before, name).value for name in RATE_OF.values()},
                "rates_after": {name: getattr(one.after, name).value for name in RATE_OF.values()},
                "step_time_errors_before": one.errors_before,
                "step_time_errors_after": one.errors_after,
                "rates_refused": one.refused,
                "better": one.better,
            }
            for one in found
        ],
    }


def print_refits(console: Console, found: Sequence[Refit]) -> None:
    """The same for people."""
    for one in found:
        console.print(f"{one.profile}")
        for name in RATE_OF.values():
            before, after = (getattr(rates, name).value for rates in (one.before, one.after))
            console.print(f"  {name}: {before:.3g} -> {after:.3g} of the tables' rate")
        for name, error in one.errors_before.items():
            console.print(f"  step of {name}: {error:+.1%} -> {one.errors_after[name]:+.1%}")
        for name, value in one.refused.items():
            console.print(f"  {name} stays: the records ask for {value:.3g}, which is no rate a device has")
        if not one.better:
            console.print("  not kept: the steps of the records, in the median, would not be predicted better")
