"""Answers as tables a person reads at a glance."""

import re
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from simtrain.estimate import HEADROOM
from simtrain.search.search import Search
from simtrain.search.space import RULES
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.study.run import cost
from simtrain.timeline.memory import CLASSES
from simtrain.views.format import count, gib, money, percent, quantity, seconds
from simtrain.views.layout import layout
from simtrain.views.shares import shares
from simtrain.workload.parameters import active, total

REASONS = {rule.name: rule.reason for rule in RULES}
QUANTITY = re.compile(r"(?P<number>[-+.\d]+(e[-+]?\d+)?) (?P<unit>\S+)")
"""As specs write numbers that have a unit, SI."""
WIDE = 130
"""Columns from which reasons stand beside the plans instead of below."""
SLOWEST_WORTH = 4
"""Times as slow as the fastest beyond which nobody trades time for memory."""
LEGEND = (
    "tp tensor (+sp sequence), cp ring context, ulysses head context, pp pipeline (x chunks a stage; 1f1b or "
    "interleaved unless named), dp data, ep expert (etp tensor inside), zero1/2/3 sharded states, mb "
    "microbatch; recomputed: selective, full, full:layers; offload: states in host memory; memory-plan: "
    "tensor by tensor"
)


def asked(job: Job) -> Text:
    """What was asked, in two lines."""
    batches = (
        f"{job.global_batch[0]}"
        if len(job.global_batch) == 1
        else f"{job.global_batch[0]}..{job.global_batch[-1]} ({len(job.global_batch)} sizes)"
    )
    tokens = f", {count(job.tokens)} tokens" if job.tokens else ""
    used = f", {count(active(job.model))} active" if job.model.experts else ""
    model = f"{job.model.name} ({count(total(job.model))} parameters{used})"
    return Text(
        f"{model} on {job.devices} x {job.cluster.device.title} ({job.cluster.title})\n"
        f"sequence {job.sequence}, batch {batches}, {job.precision.name}, {job.stack.name}{tokens}",
        style="bold",
    )


def print_search(console: Console, result: Search, found: list[dict[str, Any]]) -> None:
    """Best plan, make-up of its time and memory, runners-up and why they lose, what was searched.

    `found` are the plans of the answer's document.
    """
    console.print(asked(result.job))
    print_plan(console, result.job, found[0], title="Best plan")
    if len(found) > 1:
        console.print(_ranked(found, reasons=console.width >= WIDE))
        if console.width < WIDE:
            console.print(_reasons(found))
    console.print(_pareto(result))
    console.print(LEGEND, style="dim")
    tally = result.tally
    console.print(
        f"{tally.enumerated:,} candidates, {tally.legal:,} legal, {result.fits:,} fit; {result.elapsed:.1f} s",
        style="dim",
    )


def print_one(console: Console, job: Job, row: dict[str, Any], course: dict[str, Any] | None = None) -> None:
    """What was asked and the one plan it was asked about; `course`: see views.document."""
    console.print(asked(job))
    print_plan(console, job, row, title="Plan")
    if course is not None:
        console.print(_planned(row["step_time_s"], course))
    console.print(LEGEND, style="dim")


def _planned(step_time: float, course: dict[str, Any]) -> str:
    """What an order of one's own, slow devices and given durations make of a step."""
    planned = course["planned_step_time_s"]
    causes = [f"{what} of {course[what]}" for what in ("order", "durations") if course[what]]
    change = step_time / planned - 1
    return (
        f"As planned a step takes {seconds(planned)}; {', '.join([*course['slow'], *causes])}: "
        f"{percent(abs(change))} {'longer' if change >= 0 else 'shorter'}"
    )


def print_plan(console: Console, job: Job, row: dict[str, Any], title: str) -> None:
    """One plan in full."""
    console.print(Panel(_headline(job, row), title=title, title_align="left", expand=False))
    console.print(shares("Where a step's time goes", row["time_by_term_s"], row["step_time_s"], seconds))
    stage = row["fullest_stage"]
    console.print(shares(f"Where memory goes ({stage} stage)", row["memory_by_class_bytes"], row["memory_bytes"], gib))


def _headline(job: Job, row: dict[str, Any]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    margin = row["memory_margin_bytes"]
    memory = job.cluster.device.memory.value
    tight = " (tight)" if margin < HEADROOM * memory else ""
    fits = f"fits, {gib(margin)} to spare{tight}" if margin >= 0 else f"does NOT fit, {gib(-margin)} too much"
    table.add_row("layout", Text(layout(Plan.model_validate(row["plan"])), style="bold"))
    table.add_row(
        "step",
        f"{seconds(row['step_time_s'])}  ({seconds(row['step_time_low_s'])} to {seconds(row['step_time_high_s'])})",
    )
    table.add_row(
        "speed",
        f"{count(row['tokens_per_s'])} tokens/s, MFU {percent(row['mfu'])} (attention in full) "
        f"or {percent(row['mfu_causal'])} (causal half), HFU {percent(row['hfu'])}",
    )
    table.add_row("memory", f"{gib(row['memory_bytes'])} of {gib(memory)}: {fits}")
    host = job.cluster.node.host
    for name, used, whole in (("host", "host_memory_bytes", host.memory), ("drives", "drives_bytes", host.nvme)):
        if row[used] and whole is not None:
            share = whole.value / job.node_devices
            held = "fits" if row[used] <= share else "does NOT fit"
            table.add_row(name, f"{gib(row[used])} of {gib(share)} a device: {held}")
    if row["run"]:
        run = row["run"]
        table.add_row(
            "run",
            f"{seconds(run['time_s'])}, {run['device_time_s'] / 3600:,.0f} device-hours, {money(run['cost_usd'])} "
            "(no failures counted)",
        )
    elif row["cost_per_step_usd"] is not None:
        table.add_row("cost", f"{money(row['cost_per_step_usd'])} a step")
    if job.own is not None:
        own = job.own
        table.add_row("calibrated", f"x {own.factor.value:.3f} by {own.runs} own runs ({own.factor.source})")
    table.add_row(
        "evidence", f"{percent(row['measured_share'])} of the layer time rests on measured kernels, the rest on laws"
    )
    return table


def _ranked(found: list[dict[str, Any]], reasons: bool) -> Table:
    table = Table(title="Ranked plans (= : its error bar reaches the best)", title_justify="left", box=None)
    table.add_column("")
    table.add_column("layout", overflow="fold")
    for heading in ("batch", "step", "MFU", "memory", "a step"):
        table.add_column(heading, no_wrap=True)
    if reasons:
        table.add_column("why")
    for row in found:
        plan = Plan.model_validate(row["plan"])
        table.add_row(
            _place(row),
            layout(plan),
            str(plan.global_batch),
            seconds(row["step_time_s"]),
            percent(row["mfu"]),
            gib(row["memory_bytes"]),
            money(row["cost_per_step_usd"]),
            *([row["reason"]] if reasons else []),
        )
    return table


def _reasons(found: list[dict[str, Any]]) -> Table:
    table = Table(title="Why they stand there", title_justify="left", show_header=False, box=None)
    for row in found:
        table.add_row(_place(row), row["reason"])
    return table


def _place(row: dict[str, Any]) -> str:
    return f"{row['rank']}{'=' if row['tie'] else ''}"


def _pareto(result: Search) -> RenderableType:
    front = result.pareto
    table = Table(title="Less memory for more time (Pareto front)", title_justify="left", box=None)
    for heading in ("layout", "batch", "step", "memory", "headroom", "a step"):
        table.add_column(heading)
    pace = front.step_time / front.plans.global_batch
    worth = int((pace <= SLOWEST_WORTH * pace[:1]).sum())
    for row in _spread(worth, 8):
        plan = front.plan(row)
        total = float(front.memory.total[row])
        table.add_row(
            layout(plan),
            str(plan.global_batch),
            seconds(float(front.step_time[row])),
            gib(total),
            gib(front.capacity - total),
            money(cost(result.job, float(front.step_time[row]))),
        )
    return table


def _spread(length: int, kept: int) -> list[int]:
    """At most `kept` of so many rows, evenly, both ends among them."""
    return sorted({round(i * (length - 1) / (kept - 1)) for i in range(kept)})


def print_nothing_fits(console: Console, result: Search, hints: list[str]) -> None:
    """The counted reasons why there is no plan, and ways out."""
    console.print(asked(result.job))
    tally = result.tally
    if not tally.legal:
        console.print(Text(f"No legal plan among {tally.enumerated:,} candidates.", style="red"))
    else:
        closest = result.closest
        missing = float(closest.memory.total[0] - closest.capacity)
        capacity, plan = gib(closest.capacity), layout(closest.plan(0))
        console.print(Text(f"Nothing fits: the closest plan misses by {gib(missing)}.", style="red"))
        console.print(
            f"It needs {gib(closest.memory.total[0])} of the {capacity} a device has: {plan} "
            f"(the least of {tally.legal:,} legal plans)"
        )
        classes = dict(zip(CLASSES, closest.memory.classes[:, 0].tolist(), strict=True))
        console.print(shares("What fills it", classes, float(closest.memory.total[0]), gib))
    for hint in hints:
        console.print(f"would make it {'fit' if tally.legal else 'legal'}: {hint}")
    table = Table(title="Candidates dropped, by rule", title_justify="left", show_header=False, box=None)
    for name, dropped in sorted(tally.rejected.items(), key=lambda item: -item[1]):
        table.add_row(f"{dropped:,}", name, REASONS[name])
    console.print(table)


def fact_rows(data: Any, prefix: str = "") -> list[tuple[str, str, str, str]]:
    """Flatten a spec's facts into (name, value, evidence, source) rows."""
    out: list[tuple[str, str, str, str]] = []
    if isinstance(data, dict) and {"value", "source", "evidence"} <= set(data):
        value = data["value"]
        if isinstance(value, str) and (measure := QUANTITY.fullmatch(value)):
            value = quantity(float(measure["number"]), measure["unit"])
        elif isinstance(value, float):
            value = f"{value:,.10g}"
        return [(prefix, str(value), data["evidence"], data["source"])]
    if isinstance(data, dict):
        for key, part in data.items():
            out += fact_rows(part, f"{prefix}.{key}" if prefix else key)
    elif data is not None:
        out.append((prefix, str(data), "", ""))
    return out


def print_names(console: Console, titles: dict[str, str]) -> None:
    """Names in a column, with their titles where they have one."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, title in titles.items():
        table.add_row(name, title)
    console.print(table)


def print_facts(console: Console, name: str, data: dict[str, Any]) -> None:
    """Every number of one device, node, cluster, model or stack with its evidence and source."""
    table = Table(title=name, title_justify="left", box=None)
    for heading in ("what", "value", "evidence", "source"):
        table.add_column(heading, overflow="fold")
    for row in fact_rows(data):
        table.add_row(*row)
    console.print(Group(table))
