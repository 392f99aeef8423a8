"""Figures of a report: where time and memory go, the timeline of a step, the trade-off of time and memory."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as plot

from simtrain.estimate import TERMS, Detail, Estimate
from simtrain.estimate.replayed import Replayed
from simtrain.timeline.graph import COMPUTE
from simtrain.timeline.memory import CLASSES
from simtrain.timeline.order import NONE
from simtrain.views.format import GIB, gib, money, seconds
from simtrain.views.gantt import MEANING, evenly, found_at, layers
from simtrain.views.layout import layout
from simtrain.views.page import figure
from simtrain.views.shares import SMALLEST
from simtrain.views.trace import opens_action

COLUMNS: Final = 900
"""Moments of a step that the timeline shows."""
COLOURS: Final = (
    "#3b6fb6",
    "#5fa55a",
    "#a8d08d",
    "#e0b040",
    "#c0504d",
    "#8e63a6",
    "#d0667a",
    "#7f8894",
    "#aeb6c0",
    "#eef0f3",
)
"""In the order of gantt.MEANING."""
PALETTE: Final = (
    *("#3b6fb6", "#e08b3c", "#5fa55a", "#c0504d", "#8e63a6", "#8c6d53", "#d0667a", "#7f8894"),
    *("#b5a642", "#46a3b0", "#1f3f73", "#f0c48a", "#2f6b3a", "#e5a3a0", "#c9b3dd", "#4a3a2d"),
)
"""As many as a step has terms at most."""


def time_figure(estimate: Estimate, detail: Detail) -> str:
    """Seconds of a step of every plan by term, the best on top."""
    drawn = plot.Figure()
    names = [f"{row + 1}" for row in range(len(estimate.plans))]
    longest = detail.terms.max(axis=1)
    shown = [term for term in range(len(TERMS)) if longest[term] > SMALLEST * estimate.step_time.max()]
    for place, term in enumerate(sorted(shown, key=lambda term: -longest[term])):
        drawn.add_bar(
            y=names,
            x=detail.terms[term],
            name=TERMS[term],
            orientation="h",
            marker={"color": PALETTE[place % len(PALETTE)]},
            customdata=[seconds(float(value)) for value in detail.terms[term]],
            hovertemplate="plan %{y}: " + TERMS[term] + " %{customdata}<extra></extra>",
        )
    drawn.update_layout(barmode="stack")
    drawn.update_yaxes(autorange="reversed", title="plan", type="category")
    drawn.update_xaxes(title="seconds of a step")
    return figure("time-figure", drawn, 300 + 34 * len(names))


def memory_figure(replay: Replayed, capacity: float) -> str:
    """Every stage's memory at its peak, by class; the line is what a device has."""
    held, stages = replay.footprint, evenly(replay.step.order.stages)
    sizes = np.array([held.classes(stage, int(held.total[stage].argmax())) for stage in stages]) / GIB
    drawn = plot.Figure()
    for place, number in enumerate(number for number in range(len(CLASSES)) if sizes[:, number].max() > 0):
        drawn.add_bar(
            x=[str(stage) for stage in stages],
            y=sizes[:, number],
            name=CLASSES[number],
            marker={"color": PALETTE[place % len(PALETTE)]},
            hovertemplate="stage %{x}: " + CLASSES[number] + " %{y:.1f} GiB<extra></extra>",
        )
    drawn.add_hline(y=capacity / GIB, line={"dash": "dot", "color": "#c0504d"})
    drawn.update_layout(barmode="stack")
    drawn.update_xaxes(title="stage", type="category")
    drawn.update_yaxes(title="GiB at the peak")
    return figure("memory-figure", drawn, 420)


def memory_over_time_figure(replay: Replayed) -> str:
    """Every stage's memory from pass to pass."""
    step, held = replay.step, replay.footprint
    drawn = plot.Figure()
    for stage in evenly(step.order.stages):
        at = step.graph.stream(COMPUTE, stage)
        opens = opens_action(step.graph.kind[at], step.graph.chunk[at], step.graph.microbatch[at])
        when = step.times.start[at][opens]
        drawn.add_scatter(
            x=np.append(when, step.times.end[at][-1]),
            y=np.append(held.total[stage, : len(when)], held.resident[stage]) / GIB,
            name=f"stage {stage}",
            mode="lines",
            line={"shape": "hv", "width": 1},
            hovertemplate=f"stage {stage}: " + "%{y:.1f} GiB at %{x:.4g} s<extra></extra>",
        )
    drawn.update_xaxes(title="seconds")
    drawn.update_yaxes(title="GiB in use")
    return figure("memory-over-time-figure", drawn, 420)


def timeline_figure(replay: Replayed) -> str:
    """What every stage does when: a row a stage, a colour a kind of work."""
    step = replay.step
    ranks = evenly(step.graph.ranks)
    whole = float(step.times.end.max())
    middle = (np.arange(COLUMNS) + 0.5) * whole / COLUMNS
    rows = [found_at(layers(step, rank), middle) for rank in ranks]
    kinds = list(MEANING)
    words = [[MEANING[letter][0] + (f" {batch}" if batch != NONE else "") for letter, batch in row] for row in rows]
    steps = [(edge / len(kinds), colour) for i, colour in enumerate(COLOURS) for edge in (i, i + 1)]
    drawn = plot.Figure()
    drawn.add_heatmap(
        x=middle,
        y=[f"stage {rank % step.order.stages}" for rank in ranks],
        z=[[kinds.index(letter) for letter, _ in row] for row in rows],
        text=words,
        zmin=-0.5,
        zmax=len(kinds) - 0.5,
        colorscale=steps,
        showscale=False,
        ygap=2,
        hovertemplate="%{y}, %{x:.4g} s: %{text}<extra></extra>",
    )
    for letter in sorted({letter for row in rows for letter, _ in row}, key=kinds.index):
        marker = {"color": COLOURS[kinds.index(letter)], "symbol": "square", "size": 10}
        drawn.add_scatter(x=[None], y=[None], mode="markers", name=MEANING[letter][0], marker=marker)
    drawn.update_yaxes(autorange="reversed")
    drawn.update_xaxes(title="seconds")
    return figure("timeline-figure", drawn, 200 + 26 * len(ranks))


def front_figure(front: Estimate, costs: Sequence[float | None], chosen: Estimate) -> str:
    """Step time against memory of the plans no other beats in both."""
    drawn = plot.Figure()
    plans = [front.plan(row) for row in range(len(front.plans))]
    drawn.add_scatter(
        x=front.memory.total / GIB,
        y=front.step_time / front.plans.global_batch * 1e3,
        mode="lines+markers",
        name="no plan is better in both",
        text=[
            f"{layout(plan)}<br>{seconds(float(time))} a step, {gib(float(size))}, {money(cost)}"
            for plan, time, size, cost in zip(plans, front.step_time, front.memory.total, costs, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
    )
    star: dict[str, Any] = {"symbol": "star", "size": 14, "color": "#c0504d"}
    drawn.add_scatter(
        x=chosen.memory.total / GIB,
        y=chosen.step_time / chosen.plans.global_batch * 1e3,
        mode="markers",
        name="this plan",
        marker=star,
        hovertemplate=f"{layout(chosen.plan(0))}<extra></extra>",
    )
    drawn.add_vline(x=front.capacity / GIB, line={"dash": "dot", "color": "#c0504d"})
    drawn.update_xaxes(title="GiB of the fullest device")
    drawn.update_yaxes(title="ms a sequence", type="log")
    return figure("front-figure", drawn, 420)
