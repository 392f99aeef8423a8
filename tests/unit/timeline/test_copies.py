"""Activations copied to the host and back: hidden where there is time, a stall where there is not."""

from dataclasses import replace

import numpy as np
import pytest
from pipelines import costs

from simtrain.timeline.build import build
from simtrain.timeline.graph import COPY_IN, COPY_OUT, TO_DEVICE, TO_HOST
from simtrain.timeline.replay import replay
from simtrain.timeline.schedules import gpipe, one_f_one_b
from simtrain.timeline.step import step

PLAIN = costs(4, 1, 1.0, 1.0, 1.0)


def moving(seconds: float):
    return replace(PLAIN, copies=np.full((4, 1), seconds))


@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_short_copies_hide(seconds: float) -> None:
    """Under GPipe all; under 1F1B all but those of the last stage, whose backward pass follows at once."""
    order = gpipe.order(4, 1, 16)
    assert step(order, moving(seconds)).seconds == pytest.approx(step(order, PLAIN).seconds)
    order = one_f_one_b.order(4, 1, 16)
    assert step(order, moving(seconds)).seconds == pytest.approx(step(order, PLAIN).seconds + 16 * 2 * seconds)
    spared = replace(PLAIN, copies=np.array([[seconds], [seconds], [seconds], [0.0]]))
    assert step(order, spared).seconds == pytest.approx(step(order, PLAIN).seconds)


def test_long_copies_set_the_pace() -> None:
    """All microbatches leave one after another behind the first pass, and the last one comes back before its own."""
    found = step(gpipe.order(1, 1, 4), replace(costs(1, 1), copies=np.full((1, 1), 5.0))).seconds
    assert found == pytest.approx(1 + 4 * 5 + 5 + 2)


def test_what_waits_for_what() -> None:
    graph = build(one_f_one_b.order(4, 1, 8), moving(0.7))
    times = replay(graph)
    for rank in range(4):
        out, back = graph.stream(TO_HOST, rank), graph.stream(TO_DEVICE, rank)
        assert set(graph.kind[out]) == {COPY_OUT}
        assert set(graph.kind[back]) == {COPY_IN}
        gone = dict(zip(graph.microbatch[out].tolist(), times.end[out].tolist(), strict=True))
        passes = graph.stream(0, rank)
        forward, backward = (
            {int(graph.microbatch[i]): i for i in range(passes.start, passes.stop) if graph.kind[i] == kind}
            for kind in (0, 1)
        )
        for at in range(back.start, back.stop):
            microbatch = int(graph.microbatch[at])
            assert times.start[at] >= gone[microbatch]
            assert times.start[backward[microbatch]] >= times.end[at]
        for microbatch, at in forward.items():
            assert gone[microbatch] >= times.end[at] + 0.7 - 1e-9


def test_nothing_moves_by_default() -> None:
    graph = build(one_f_one_b.order(4, 1, 8), PLAIN)
    assert not np.isin(graph.kind, (COPY_OUT, COPY_IN)).any()
