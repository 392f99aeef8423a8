"""An explanation as tables and as data."""

from typing import Any

from rich.console import Console
from rich.table import Table

from simtrain.estimate import TERMS
from simtrain.spec.memory_policy import actions_of
from simtrain.study.alternative import Alternative
from simtrain.study.explain import Best, Explanation
from simtrain.study.grounds import SLOWER, Grounds
from simtrain.views.document import FORMAT_VERSION, simulate_document
from simtrain.views.format import gib, percent, seconds
from simtrain.views.layout import layout
from simtrain.views.tables import asked

SMALLEST = 0.001
"""Share of a step from which a difference in a term is told."""


def document(found: Explanation) -> dict[str, Any]:
    """Everything as plain data; keys carry their units."""
    answer = simulate_document(found.job, found.estimate, found.detail)
    return {
        "format_version": FORMAT_VERSION,
        "job": answer["job"],
        "plan": answer["plans"][0],
        "allowed": list(found.allowed),
        "binds": binds(found),
        "best": _best(found.best),
        "best_with_unlimited_memory": _best(found.unlimited),
        "worth": [
            {
                "change": worth.change,
                "plan_gain_s": worth.plan_gain,
                "best_gain_s": worth.best_gain,
                "best": _best(worth.best),
            }
            for worth in found.worths
        ],
        "rests_on": _grounds(found.grounds),
        "why_not": None if found.alternative is None else _alternative(found.alternative),
    }


def _best(best: Best | None) -> dict[str, Any] | None:
    if best is None:
        return None
    return {"plan": best.plan.model_dump(mode="json"), "step_time_s": best.step_time, "memory_bytes": best.memory}


def _grounds(found: Grounds) -> dict[str, Any]:
    errors = found.errors
    return {
        "errors_of": found.errors_of or None,
        "runs": found.own_runs or (errors.runs if errors else 0),
        "median_error": errors.median if errors else None,
        "error_90_percent": errors.p90 if errors else None,
        "kernels": str(found.device),
        "rates": [
            {
                "rate": rest.what,
                "lowered_by": SLOWER,
                "longer_s": rest.longer,
                "evidence": str(rest.evidence),
                "source": rest.source,
            }
            for rest in found.rests
        ],
        "assumed": list(found.assumed),
    }


def _alternative(found: Alternative) -> dict[str, Any]:
    return {
        "asked": found.asked,
        "verdict": found.verdict,
        "plan": None if found.plan is None else found.plan.model_dump(mode="json"),
        "step_time_s": found.step_time,
        "memory_bytes": found.memory,
        "missing_bytes": found.missing,
        "more_time_by_term_s": found.terms,
        "memory_by_class_bytes": found.classes,
        "problems": [{"problem": str(problem), "hint": problem.hint} for problem in found.problems],
    }


def binds(found: Explanation) -> str:
    """The binding constraint in a sentence."""
    terms = found.detail.terms[:, 0]
    largest = int(terms.argmax())
    share = percent(float(terms[largest] / found.estimate.step_time[0]))
    time = f"{TERMS[largest]} takes {share} of the step"
    if found.best is None:
        return f"memory: nothing fits; {time}"
    if not found.memory_binds:
        return f"{TERMS[largest]}: it takes {share} of the step, and no amount of memory would allow a faster plan"
    saved = found.best.step_time - found.unlimited.step_time
    return (
        f"memory: without its limit {layout(found.unlimited.plan)} would save {seconds(saved)} "
        f"({percent(saved / found.best.step_time)}) and need {gib(found.unlimited.memory)}; {time}"
    )


def print_explanation(console: Console, found: Explanation) -> None:
    """What binds, what is worth what, what it rests on, why not the other."""
    own = found.estimate
    console.print(asked(found.job))
    margin = float(own.capacity - own.memory.total[0])
    spare = f"{gib(margin)} to spare" if margin >= 0 else f"{gib(-margin)} short"
    console.print(f"{layout(found.plan)}: {seconds(float(own.step_time[0]))} a step, {spare}")
    if found.best is not None and found.best.plan != found.plan:
        console.print(f"The best plan is {layout(found.best.plan)}: {seconds(found.best.step_time)} a step.")
    own_actions = ",".join(actions_of(found.plan.memory))
    if found.allowed:
        console.print(f"Best plans may have memory plans: {', '.join(found.allowed)}.")
    elif own_actions:
        console.print(
            f"This plan has a memory plan; others are looked for without one (--allow {own_actions} lets them have it)."
        )
    console.print(f"Binds: {binds(found)}.", style="bold")
    console.print(_worths(found))
    _print_grounds(console, found)
    if found.alternative is not None:
        _print_alternative(console, found, found.alternative)


def _worths(found: Explanation) -> Table:
    table = Table(
        "what", "this plan", "best plan", "which would be", title="Worth a step", title_justify="left", box=None
    )
    for worth in found.worths:
        same = found.best is not None and worth.best is not None and worth.best.plan == found.best.plan
        best = "nothing fits" if worth.best is None else "the same" if same else layout(worth.best.plan)
        table.add_row(worth.change, _gain(worth.plan_gain), _gain(worth.best_gain), best)
    return table


def _gain(value: float) -> str:
    return "nothing" if abs(value) < 1e-6 else f"{seconds(value)}" if value > 0 else f"-{seconds(-value)}"


def _print_grounds(console: Console, found: Explanation) -> None:
    grounds, detail = found.grounds, found.detail
    low, high = seconds(float(detail.low[0])), seconds(float(detail.high[0]))
    console.print(f"What {low} to {high} rests on", style="italic")
    if grounds.own_runs:
        console.print(f" {grounds.own_runs} runs of your own")
    elif grounds.errors is not None:
        errors = grounds.errors
        console.print(
            f" {errors.runs} runs of {grounds.errors_of}, left out of the fit: half within {percent(errors.median)}, "
            f"90 % within {percent(errors.p90)}"
        )
    measured = percent(float(detail.measured[0]))
    console.print(f" {measured} of the layers' time on measured kernels ({grounds.device}), the rest on laws")
    console.print(f" {len(grounds.assumed)} assumed facts of stack and cluster (--json lists them)")
    table = Table("a rate 10 % lower", "step", "evidence", title_justify="left", box=None)
    for rest in grounds.rests:
        table.add_row(rest.what, f"+{seconds(rest.longer)}", str(rest.evidence))
    console.print(table)


def _print_alternative(console: Console, found: Explanation, other: Alternative) -> None:
    named = ", ".join(f"{name} {value}" for name, value in other.asked.items())
    if other.plan is None:
        console.print(f"Why not {named}: it is illegal", style="bold")
        for problem in other.problems:
            console.print(f"  {problem}" + (f" ({problem.hint})" if problem.hint else ""))
        return
    own = float(found.estimate.step_time[0])
    console.print(f"Why not {named}: {_verdict(other, own)}", style="bold")
    without = " (looked for without a memory plan)" if found.allowed or found.plan.memory else ""
    described = f"{layout(other.plan)}, {seconds(other.step_time)} a step, {gib(other.memory)}{without}"
    console.print(f"  the best with it: {described}")
    if other.missing and other.classes:
        largest = sorted(other.classes.items(), key=lambda item: -item[1])[:3]
        console.print("  memory: " + ", ".join(f"{gib(size)} {name}" for name, size in largest))
    differences = sorted((other.terms or {}).items(), key=lambda item: -abs(item[1]))
    told = [
        f"{'+' if value > 0 else '-'}{seconds(abs(value))} {name}"
        for name, value in differences[:5]
        if abs(value) > SMALLEST * own
    ]
    if told:
        console.print("  " + ", ".join(told))


def _verdict(other: Alternative, own: float) -> str:
    difference = other.step_time - own
    words = {
        "too big": f"it is too big, by {gib(other.missing)} at the least",
        "slower": f"{seconds(difference)} slower ({percent(difference / own)})",
        "faster": f"it is {seconds(-difference)} faster",
        "the same": "it is this plan",
    }
    return words[other.verdict]
