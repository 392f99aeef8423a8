"""A configuration that was brought: its prediction, where it loses against the best plan, which settings to change."""

from typing import Any

from rich.console import Console
from rich.table import Table

from simtrain.estimate import HEADROOM, Detail, Estimate
from simtrain.search.search import Search
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.views.document import rows, simulate_document
from simtrain.views.format import gib, percent, seconds
from simtrain.views.layout import layout
from simtrain.views.tables import print_one

SMALLEST = 0.001
"""Share of a step from which a difference is shown."""


def document(
    trainer: str,
    job: Job,
    imported: Any,
    mine: tuple[Estimate, Detail],
    best: Search,
    changes: dict[str, list[Any]],
) -> dict[str, Any]:
    """The prediction, the best plan, and the difference; keys carry their units."""
    answer = simulate_document(job, *mine)
    answer["imported"] = {
        "trainer": trainer,
        "not_understood": list(imported.unknown),
        "without_effect": list(imported.without_effect),
        "remarks": list(imported.remarks),
    }
    found = rows(best.best, best.detail, best.ties.tolist())[:1]
    answer["best"] = found[0] if found else None
    if found:
        own, other = answer["plans"][0]["time_by_term_s"], found[0]["time_by_term_s"]
        answer["against_best"] = {
            "step_time_s": answer["plans"][0]["step_time_s"] - found[0]["step_time_s"],
            "time_by_term_s": {term: own[term] - other[term] for term in own},
            "settings": changes,
        }
    return answer


def print_brought(console: Console, job: Job, answer: dict[str, Any]) -> None:
    """The plan as simulate prints it, and what would make it faster."""
    print_one(console, job, answer["plans"][0])
    imported = answer["imported"]
    if imported["not_understood"]:
        console.print("Not understood, and not part of the prediction", style="bold")
        for name in imported["not_understood"]:
            console.print(f"  {name}")
    for remark in imported["remarks"]:
        console.print(f"note: {remark}")
    if answer["best"] is None:
        console.print("No plan of this job fits.")
        return
    _print_difference(console, answer)


def _print_difference(console: Console, answer: dict[str, Any]) -> None:
    mine, best, against = answer["plans"][0], answer["best"], answer["against_best"]
    lost = against["step_time_s"]
    if mine["plan"] == best["plan"]:
        console.print("It is the best plan of this job.")
        return
    console.print(f"Best plan: {layout(Plan.model_validate(best['plan']))}", style="bold")
    share = percent(abs(lost) / mine["step_time_s"])
    difference = f"{seconds(abs(lost))} a step {'less' if lost > 0 else 'more'} than yours ({share})"
    console.print(f"  {seconds(best['step_time_s'])} a step, {difference}; {gib(best['memory_bytes'])} of memory")
    if lost <= 0:
        margin = mine["memory_margin_bytes"]
        why = "does not fit" if not mine["fits"] else f"leaves {gib(margin)} of memory free only"
        console.print(f"  yours {why}, and ranked plans leave {percent(HEADROOM)} of it")
    terms = Table(title="Yours against it", title_justify="left", show_header=False, box=None)
    for term, difference in sorted(against["time_by_term_s"].items(), key=lambda item: -item[1]):
        if abs(difference) > SMALLEST * mine["step_time_s"]:
            terms.add_row(term, f"{'+' if difference > 0 else '-'}{seconds(abs(difference))}")
    console.print(terms)
    settings = Table("setting", "yours", "best", title="Settings to change", title_justify="left", box=None)
    for name, (own, other) in against["settings"].items():
        settings.add_row(name, _shown(own), _shown(other))
    console.print(settings)


def _shown(value: Any) -> str:
    return "-" if value is None else "stated" if value is True else str(value)
