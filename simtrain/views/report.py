"""A plan as a page people read: the answer, where time and memory go, what else there is, what it rests on."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from simtrain.estimate import Detail, Estimate, machine
from simtrain.estimate.replayed import predicted, replayed
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.study.explain import Explanation, explain
from simtrain.study.run import cost
from simtrain.views.document import rows
from simtrain.views.explain import binds
from simtrain.views.figures import (
    front_figure,
    memory_figure,
    memory_over_time_figure,
    time_figure,
    timeline_figure,
)
from simtrain.views.format import count, gib, money, percent, seconds
from simtrain.views.layout import layout
from simtrain.views.page import code, folded, page, paragraph, section, table
from simtrain.views.tables import LEGEND, fact_rows


def report(
    job: Job,
    ranked: Sequence[Plan],
    front: Sequence[Plan],
    rank: int,
    commands: Sequence[str],
    told: tuple[str, str, Sequence[str]],
) -> Iterator[str]:
    """The page about plan `rank` (from 1) of `ranked`, in pieces.

    All numbers are predicted anew from job and plans. `front`: plans that trade time for memory. `commands`: how to go
    on, a line each. `told`: a trainer, what it is told, and what it cannot be told.
    """
    on = machine(job)
    estimate, detail = predicted(job, ranked, on)
    chosen = np.array([rank - 1])
    found = rows(estimate, detail, _ties(estimate, detail))
    row = found[rank - 1]
    plan = ranked[rank - 1]
    replay = replayed(job, plan, on)
    explained = explain(job, plan)
    title = f"{job.model.name} on {job.devices} x {job.cluster.device.title}"
    subtitle = (
        f"{job.cluster.title}; sequence {job.sequence}, {job.precision.name}, {job.optimizer.name}, {job.stack.name}"
        + (f", {count(job.tokens)} tokens" if job.tokens else "")
    )
    sections = [
        section("answer", "The answer", paragraph(answer(job, row, explained), "answer"), paragraph(LEGEND, "soft")),
        section(
            "time",
            "Where the time goes",
            paragraph("A bar a plan, in the order of the ranking below; together the parts are a step."),
            time_figure(estimate, detail),
        ),
        section(
            "memory",
            "Where memory goes",
            paragraph("What every pipeline stage holds when it holds most; the dotted line is what a device has."),
            memory_figure(replay, estimate.capacity),
            paragraph("The same over one step, from pass to pass."),
            memory_over_time_figure(replay),
        ),
        section(
            "timeline",
            "One step, stage by stage",
            paragraph(f"A step of {seconds(replay.step.seconds)}, replayed event by event."),
            timeline_figure(replay),
        ),
    ]
    if front:
        trade = predicted(job, front, on)[0]
        costs = [cost(job, float(time)) for time in trade.step_time]
        words = "Each point is a plan; the dotted line is what a device has."
        drawn = front_figure(trade, costs, estimate.take(chosen))
        sections.append(section("front", "Less memory for more time", paragraph(words), drawn))
    sections += [
        section("runners-up", "The other plans, and why they lose", _ranking(found)),
        section("changes", "What would change the answer", *_changes(explained, row)),
        section("evidence", "What it rests on", *_evidence(job, row, explained)),
        section("run", "How to run it", *_run(commands, *told)),
    ]
    yield from page(title, subtitle, sections)


def _ties(estimate: Estimate, detail: Detail) -> list[bool]:
    """Plans whose interval reaches the first one's step time a sequence."""
    batch = estimate.plans.global_batch
    return [bool(tie) for tie in detail.low / batch <= (estimate.step_time / batch)[0]]


def answer(job: Job, row: dict[str, Any], explained: Explanation) -> str:
    """The answer in one paragraph."""
    margin = row["memory_margin_bytes"]
    fits = f"{gib(margin)} to spare" if row["fits"] else f"{gib(max(-margin, 0.0))} too much: it does not fit"
    words = [
        f"Run {layout(Plan.model_validate(row['plan']))} with a global batch of {row['plan']['global_batch']}.",
        f"A step takes {seconds(row['step_time_s'])} ({seconds(row['step_time_low_s'])} to "
        f"{seconds(row['step_time_high_s'])}): {count(row['tokens_per_s'])} tokens a second, "
        f"{percent(row['mfu'])} of the devices' peak.",
        f"The fullest device holds {gib(row['memory_bytes'])} of {gib(job.cluster.device.memory.value)}, {fits}.",
    ]
    run = row["run"]
    if run:
        price = "" if run["cost_usd"] is None else f" and cost {money(run['cost_usd'])}"
        words.append(
            f"{count(job.tokens or 0)} tokens take {seconds(run['time_s'])}, "
            f"{run['device_time_s'] / 3600:,.0f} device-hours{price}, no failures counted."
        )
    elif row["cost_per_step_usd"] is not None:
        words.append(f"A step costs {money(row['cost_per_step_usd'])}.")
    largest = max(row["time_by_term_s"], key=row["time_by_term_s"].__getitem__)
    words.append(f"Most of the time goes into {largest}.")
    binds = "Memory binds: with more of it another plan would be faster." if explained.memory_binds else ""
    return " ".join([*words, binds]).strip()


def _run(commands: Sequence[str], trainer: str, settings: str, lost: Sequence[str]) -> list[str]:
    """The trainer's own settings, and further questions."""
    words = f"What {trainer} is told (the line with simtrain export writes it, launch scripts beside it):"
    missing = f"It cannot be told: {'; '.join(lost)}." if lost else "That is all of the plan."
    return [paragraph(words), code(settings), paragraph(missing), paragraph("Go on with:"), code("\n".join(commands))]


def _ranking(found: Sequence[dict[str, Any]]) -> str:
    headings = ("", "layout", "step", "MFU", "memory", "a step", "why")
    listed = [
        (
            f"{row['rank']}{'=' if row['tie'] else ''}",
            layout(Plan.model_validate(row["plan"])),
            seconds(row["step_time_s"]),
            percent(row["mfu"]),
            gib(row["memory_bytes"]),
            money(row["cost_per_step_usd"]),
            row["reason"],
        )
        for row in found
    ]
    return paragraph("= : its error bar reaches the first.", "soft") + table(headings, listed)


def _changes(explained: Explanation, row: dict[str, Any]) -> list[str]:
    """The worth of more of each resource."""
    listed = [
        (
            worth.change,
            f"{_gained(worth.plan_gain, row['step_time_s'])}",
            "nothing fits" if worth.best is None else layout(worth.best.plan),
            f"{_gained(worth.best_gain, row['step_time_s'])}",
        )
        for worth in explained.worths
    ]
    words = f"Binds: {binds(explained)}"
    return [table(("with", "this plan saves", "best plan then", "it saves"), listed), paragraph(words)]


def _gained(saved: float, step_time: float) -> str:
    return "nothing" if abs(saved) < 0.0005 * step_time else f"{seconds(saved)} ({percent(saved / step_time)})"


def _evidence(job: Job, row: dict[str, Any], explained: Explanation) -> list[str]:
    """Where the interval is from, what hangs on which rate, and what was assumed."""
    grounds = explained.grounds
    words = [
        f"{percent(row['measured_share'])} of the layers' time rests on measured kernels and collectives "
        f"({grounds.device}), the rest on laws."
    ]
    if grounds.own_runs:
        words.append(f"The interval is that of {grounds.own_runs} runs of your own.")
    elif grounds.errors is not None:
        words.append(f"The interval held 90 % of the published runs of {grounds.errors_of} left out of the fit.")
    else:
        words.append("No published run is comparable; the interval is by the evidence of the kernels.")
    rests = [
        (rest.what, f"+{seconds(rest.longer)} a step if it were 10 % lower", str(rest.evidence), rest.source)
        for rest in grounds.rests
    ]
    facts = [
        fact
        for where, part in (("cluster", job.cluster), ("stack", job.stack))
        for fact in fact_rows(part.model_dump(mode="json"), where)
        if fact[0] in grounds.assumed
    ]
    parts = [paragraph(" ".join(words)), table(("sustained rate of", "what hangs on it", "evidence", "source"), rests)]
    if facts:
        assumed = table(("assumed", "value", "source"), [(name, value, source) for name, value, _, source in facts])
        parts.append(folded(f"{len(facts)} facts of cluster and stack that nobody measured or published", assumed))
    return parts
