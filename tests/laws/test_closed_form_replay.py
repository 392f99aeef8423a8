"""The closed form of every schedule against its replay, on equal stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.schedule import SCHEDULES, TRAITS, Schedule
from simtrain.timeline.closed_form import Apart, Hops, pipeline
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.schedules.drawn import drawn
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.steady import steady
from simtrain.timeline.step import step
from simtrain.workload.strategies.pipeline import exchanges

WAITING = 0.35
WITHIN = dict.fromkeys(SCHEDULES, 0.01) | {"zb-1p": 0.03, "zb-2p": 0.02, "zb-v": 0.025, "hanayo": 0.02}
"""Relative; the four above 1 % are so for few microbatches a stage and long messages, see below."""


def replayed(schedule: Schedule, shape: tuple[int, int, int], passes: tuple[float, ...], hop: float, shown: float):
    """Seconds of a step of equal stages, of `shape` stages, chunks and microbatches."""
    stages, chunks, microbatches = shape
    forward, backward, weight = (np.full((1, stages, chunks), part / chunks) for part in passes)
    none = Traffic(np.zeros((stages, chunks)))
    hops = np.full(stages, hop)
    costs = Costs(forward, backward, weight, hops, none, none, np.zeros(stages), shown)
    if schedule == "no-flush":
        return steady(stages, microbatches, costs).seconds
    pace = Pace(*(part / chunks for part in passes), hop, WAITING)
    return step(drawn(schedule, stages, chunks, microbatches, pace), costs).seconds


def closed(schedule: Schedule, shape: tuple[int, int, int], passes: tuple[float, ...], hop: float, hidden: float):
    """The same in closed form."""
    stages, chunks, microbatches = shape
    forward, backward, weight = passes
    plans = PlanTable.of([Plan(pp=stages, vpp=chunks, schedule=schedule, global_batch=microbatches)])
    count = np.array([[1.0], [0.0], [stages - 2.0], [1.0]])
    there = (count > 0) * 1.0
    hops = Hops(np.full((4, 1), hop), exchanges(plans), np.array([hop * (stages - 1)]), np.array([hop]))
    apart = Apart(weight * there, np.array([WAITING]), synchronous=True)
    found = pipeline(plans, count, forward * there, (backward + weight) * there, hops, hidden, apart)
    return float((found.busy + found.bubble + found.hops)[0])


def cases(schedule: Schedule, most_hop: float):
    """Shape, passes, hop and hidden share: two microbatches a stage or more, hops up to so much of a pass."""
    least, most, step_ = TRAITS[schedule].chunks
    chunks = st.sampled_from([c for c in (1, 2, 3, 4, 8) if least <= c <= most and c % step_ == 0])
    shape = st.tuples(st.sampled_from([2, 3, 4, 8, 12]), chunks, st.integers(2, 6)).map(
        lambda drawn_: (drawn_[0], drawn_[1], drawn_[0] * drawn_[2])
    )
    passes = st.tuples(st.just(1.0), st.floats(1.0, 2.2), st.floats(0.4, 1.0))
    hidden = st.sampled_from([0.0, 0.5, 1.0]) if TRAITS[schedule].hides else st.just(float(TRAITS[schedule].split))
    return st.tuples(shape, passes, st.floats(0.0, most_hop), hidden)


@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(max_examples=60)
@given(st.data())
def test_closed_form_is_the_replay(schedule: Schedule, data: st.DataObject) -> None:
    shape, passes, hop, hidden = data.draw(cases(schedule, most_hop=0.06))
    hop = hop / shape[1]
    exact = replayed(schedule, shape, passes, hop, 1 - hidden)
    assert closed(schedule, shape, passes, hop, hidden) == pytest.approx(exact, rel=WITHIN[schedule])


@pytest.mark.parametrize("schedule", SCHEDULES)
@settings(max_examples=60)
@given(st.data())
def test_within_one_per_cent_where_messages_are_free(schedule: Schedule, data: st.DataObject) -> None:
    shape, passes, _, hidden = data.draw(cases(schedule, most_hop=0.0))
    exact = replayed(schedule, shape, passes, 0.0, 1 - hidden)
    assert closed(schedule, shape, passes, 0.0, hidden) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("schedule", ["gpipe", "breadth-first", "no-flush"])
@settings(max_examples=30)
@given(st.data())
def test_exact_where_nothing_is_searched_or_skewed(schedule: Schedule, data: st.DataObject) -> None:
    shape, passes, hop, hidden = data.draw(cases(schedule, most_hop=0.06))
    hop = hop / shape[1]
    exact = replayed(schedule, shape, passes, hop, 1 - hidden)
    assert closed(schedule, shape, passes, hop, hidden) == pytest.approx(exact, rel=1e-6)
