"""Activations copied off the device and back: hidden beside their passes, a stall where they take longer."""

from dataclasses import replace

import numpy as np
import pytest
from pipelines import costs

from simtrain.timeline.build import build
from simtrain.timeline.costs import ALONE, Costs
from simtrain.timeline.graph import COPY_IN, COPY_OUT, TO_DEVICE, TO_HOST
from simtrain.timeline.replay import replay
from simtrain.timeline.schedules import gpipe, one_f_one_b
from simtrain.timeline.step import step

PLAIN = costs(4, 1, 1.0, 1.0, 1.0)


def moving(out: float, back: float, plain: Costs = PLAIN) -> Costs:
    shape = plain.forward.shape[1:]
    return replace(plain, copies_out=np.full(shape, out), copies_in=np.full(shape, back))


@pytest.mark.parametrize("schedule", [gpipe, one_f_one_b])
@pytest.mark.parametrize(("out", "back"), [(0.1, 0.3), (1.0, 2.0)])
def test_copies_no_longer_than_their_pass_hide(schedule, out: float, back: float) -> None:
    order = schedule.order(4, 1, 16)
    assert step(order, moving(out, back)).seconds == pytest.approx(step(order, PLAIN).seconds)


@pytest.mark.parametrize(("out", "back"), [(1.5, 0.5), (0.5, 2.75), (1.5, 2.75)])
def test_alone_on_a_stage_a_pass_takes_as_long_as_its_copies(out: float, back: float) -> None:
    """Forward 1, backward 2; nothing but the first pass's own compute can begin earlier."""
    found = step(one_f_one_b.order(1, 1, 8), moving(out, back, costs(1, 1)))
    assert found.seconds == pytest.approx(8 * (max(1.0, out) + max(2.0, back)))
    stalled = found.terms[len(found.costs.forward) + ALONE.index("activation copies"), 0]
    assert stalled == pytest.approx(8 * (max(0.0, out - 1) + max(0.0, back - 2)))


def test_copies_in_may_begin_in_a_bubble() -> None:
    """The last stage's first backward pass lets others wait; they fetch meanwhile and lose less than the excess."""
    order = one_f_one_b.order(4, 1, 4)
    plain, found = step(order, PLAIN).seconds, step(order, moving(0.5, 2.5)).seconds
    assert plain < found < plain + (4 + 3) * 0.5 + 1e-9


def test_what_waits_for_what() -> None:
    graph = build(one_f_one_b.order(4, 1, 8), moving(1.25, 2.75))
    times = replay(graph)
    for rank in range(4):
        out, back = graph.stream(TO_HOST, rank), graph.stream(TO_DEVICE, rank)
        assert set(graph.kind[out]) == {COPY_OUT}
        assert set(graph.kind[back]) == {COPY_IN}
        passes = graph.stream(0, rank)
        forward, backward = (
            {int(graph.microbatch[i]): i for i in range(passes.start, passes.stop) if graph.kind[i] == kind}
            for kind in (0, 1)
        )
        for at in range(out.start, out.stop, 2):
            one = forward[int(graph.microbatch[at])]
            assert times.start[at] == pytest.approx(times.start[one])
            following = one + 1
            assert times.start[following] >= times.end[at + 1] - 1e-9
        for at in range(back.start, back.stop, 2):
            one = backward[int(graph.microbatch[at])]
            assert times.start[one] >= times.end[at] - 1e-9
            assert times.end[at + 1] <= times.end[one] + 1e-9
            assert times.start[at] >= times.end[one - 1] - 1e-9


def test_nothing_moves_by_default() -> None:
    graph = build(one_f_one_b.order(4, 1, 8), PLAIN)
    assert not np.isin(graph.kind, (COPY_OUT, COPY_IN)).any()
