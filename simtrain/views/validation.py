"""A validation record as data and as a table."""

from collections.abc import Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.validation.compare import Prediction, Row
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
        "predicted_step_time_s": prediction.step_time,
        "predicted_memory_by_class_bytes": prediction.memory,
        "terms": [
            {"name": row.name, "unit": row.unit, "predicted": row.predicted, "measured": row.measured} for row in rows
        ],
        "ranks": ranks,
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
        table.add_row(f"{term['name']} ({term['unit']})", *(_shown(v, term["unit"]) for v in (predicted, measured)), error)
    console.print(table)


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return seconds(value) if unit == "s" else f"{value / 1e6:,.2f} MB" if unit == "B" else f"{value:,.0f}"
