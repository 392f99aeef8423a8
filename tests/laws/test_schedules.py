"""Every schedule replayed: bubbles and microbatches in flight as published."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import SCHEDULES, costs

from simtrain.timeline.footprint import Held, footprint
from simtrain.timeline.memory import CLASSES
from simtrain.timeline.order import Order
from simtrain.timeline.schedules import (
    breadth_first,
    dual_pipe_v,
    gpipe,
    interleaved,
    one_f_one_b,
    wave,
    zero_bubble,
    zero_bubble_v,
)
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.step import step

SOME = settings(max_examples=40)
PASS = st.floats(0.1, 10)


def bubble(order: Order, forward: float, backward: float, weight: float, **more: object) -> float:
    """Seconds beyond the passes of a stage; seconds of a chunk's passes."""
    stages, chunks = order.place.shape
    seconds = step(order, costs(stages, chunks, forward, backward, weight, **more)).seconds
    return seconds - order.microbatches * chunks * (forward + backward + weight)


def in_flight(order: Order, waiting: float = 0.0) -> list[float]:
    """Most microbatches whose activations a stage holds at once; `waiting`: share weight gradients wait with."""
    one = np.full(order.place.shape, 1 / order.place.shape[1])
    none = np.zeros(order.stages)
    held = Held(np.zeros((len(CLASSES), order.stages)), one, waiting * one, none, none)
    return footprint(order, held).total.max(axis=1).tolist()


@SOME
@given(st.integers(1, 12), st.integers(1, 40), PASS, PASS)
def test_gpipe_and_1f1b(stages: int, microbatches: int, forward: float, backward: float) -> None:
    """(m + p - 1)(f + b): arXiv 1811.06965, 2104.04473 section 2.2."""
    for schedule in (gpipe, one_f_one_b):
        found = bubble(schedule.order(stages, 1, microbatches), forward, backward / 2, backward / 2)
        assert found == pytest.approx((stages - 1) * (forward + backward), abs=1e-9)


@pytest.mark.parametrize(("microbatches", "expected"), [(1, 1.0), (4, 2.909), (32, 6.564)])
def test_gpipe_speed_up_on_eight_stages(microbatches: int, expected: float) -> None:
    """Over one stage that holds the whole model."""
    seconds = step(gpipe.order(8, 1, microbatches), costs(8, 1)).seconds
    assert step(gpipe.order(1, 1, microbatches), costs(1, 1, 8.0, 8.0, 8.0)).seconds / seconds == pytest.approx(
        expected, abs=5e-4
    )


@SOME
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 5), PASS, PASS)
def test_interleaved_and_breadth_first(stages: int, rounds: int, chunks: int, forward: float, backward: float) -> None:
    """(p - 1)(f + b)/v, f and b a stage's: arXiv 2104.04473 section 2.2, 2211.05953 equation 2."""
    for schedule in (interleaved, breadth_first):
        order = schedule.order(stages, chunks, stages * rounds)
        found = bubble(order, forward, backward / 2, backward / 2)
        assert found == pytest.approx((stages - 1) * (forward + backward), abs=1e-9)


@SOME
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 4), PASS, PASS)
def test_waves(stages: int, rounds: int, waves: int, forward: float, backward: float) -> None:
    """2(p - 1) times the longer pass of a chunk, however many waves: see timeline/schedules/wave.py."""
    found = bubble(wave.order(stages, 2 * waves, stages * rounds), forward, backward / 2, backward / 2)
    assert found == pytest.approx(2 * (stages - 1) * max(forward, backward), abs=1e-9)


@SOME
@given(st.integers(2, 8), st.integers(0, 20), PASS, PASS, st.floats(0.05, 1))
def test_zb_h1(stages: int, more: int, forward: float, backward: float, share: float) -> None:
    """(p - 1)(T_F + T_B - T_W): arXiv 2401.10241 table 2, where T_W is no longer than the others."""
    weight = share * min(forward, backward)
    order = zero_bubble.order(stages, stages + more, Pace(forward, backward, weight), stages)
    found = bubble(order, forward, backward, weight, synchronous=False)
    assert found == pytest.approx((stages - 1) * (forward + backward - weight))


@SOME
@given(st.integers(2, 8), st.integers(0, 20), PASS, st.floats(0.05, 1), st.floats(0.05, 1))
def test_zb_h2(stages: int, more: int, backward: float, of_backward: float, of_forward: float) -> None:
    """At most (p - 1)(T_F + T_B - 2 T_W), ibid., from 2p - 1 microbatches on: more of them leave more weight passes to
    fill the end with. For T_W <= T_F <= T_B."""
    forward = of_backward * backward
    weight = of_forward * forward
    order = zero_bubble.order(stages, 2 * stages - 1 + more, Pace(forward, backward, weight), 2 * stages)
    found = bubble(order, forward, backward, weight, synchronous=False)
    assert found <= (stages - 1) * (forward + backward - 2 * weight) + 1e-9


@pytest.mark.parametrize("stages", [2, 4, 8, 16])
@pytest.mark.parametrize("rounds", [2, 3])
def test_equal_passes_leave_no_bubble(stages: int, rounds: int) -> None:
    """ZB-H2 and ZB-V, ibid. sections 2.2 and 6; with stages that wait for all to finish, the way to the last one."""
    orders = (
        zero_bubble.order(stages, stages * rounds, Pace(), 2 * stages),
        zero_bubble_v.order(stages, 2, stages * rounds, Pace()),
    )
    for order in orders:
        assert bubble(order, 1.0, 1.0, 1.0, synchronous=False) == pytest.approx(0.0, abs=1e-9)
        assert bubble(order, 1.0, 1.0, 1.0) == pytest.approx(stages - 1)


@SOME
@given(st.integers(2, 8), st.integers(0, 9), PASS, st.floats(0.05, 1), st.floats(0.05, 1))
def test_dual_pipe_v(stages: int, more: int, backward: float, of_backward: float, of_both: float) -> None:
    """At most (p - 1)(F&B + B - 3W) (README of deepseek-ai/DualPipe; its B holds W): F&B, which it counts as one pass,
    is two here that give their results one by one. For T_W <= T_B and T_F <= T_B + T_W."""
    weight = of_backward * backward
    both = backward + weight
    forward = of_both * both
    found = bubble(dual_pipe_v.order(stages, 2, 2 * stages + more), forward, backward, weight)
    assert 0 < found <= (stages - 1) * (forward + both + both - 3 * weight) + 1e-9


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 4), (4, 12), (8, 16)])
def test_microbatches_in_flight(stages: int, microbatches: int) -> None:
    """GPipe and breadth-first all, 1F1B p - s, interleaved p + (p - 1)/v on the first stage (arXiv 2205.05198), waves
    p, DualPipeV p + 1/2 (README of deepseek-ai/DualPipe)."""
    every, behind = np.arange(stages), stages - 1 - np.arange(stages)
    several = np.full(stages, float(microbatches))
    assert in_flight(gpipe.order(stages, 1, microbatches)) == several.tolist()
    assert in_flight(breadth_first.order(stages, 3, microbatches)) == pytest.approx(several)
    assert in_flight(one_f_one_b.order(stages, 1, microbatches)) == (stages - every).tolist()
    chunks_ahead = np.minimum((3 - 1) * stages + 2 * behind + 1, 3 * microbatches)
    assert in_flight(interleaved.order(stages, 3, microbatches)) == pytest.approx(chunks_ahead / 3)
    for waves in (1, 2, 4):
        assert max(in_flight(wave.order(stages, 2 * waves, microbatches))) == pytest.approx(stages)
    if microbatches >= 2 * stages:
        assert in_flight(dual_pipe_v.order(stages, 2, microbatches)) == pytest.approx(np.full(stages, stages + 0.5))


@SOME
@given(st.integers(2, 8), st.integers(1, 40), PASS, PASS, PASS, st.floats(0, 2), st.floats(0, 25))
def test_zero_bubble_schedules_keep_their_limits(
    stages: int, microbatches: int, forward: float, backward: float, weight: float, hop: float, waiting: float
) -> None:
    """p M_B in ZB-1p and ZB-V, 2p M_B in ZB-2p: arXiv 2401.10241 sections 5.1 and 6.

    Weight gradients that wait with more than M_B come on top, one at a time.
    """
    pace = Pace(forward, backward, weight, hop, waiting)
    orders = (
        (stages, zero_bubble.order(stages, microbatches, pace, stages)),
        (2 * stages, zero_bubble.order(stages, microbatches, pace, 2 * stages)),
        (stages, zero_bubble_v.order(stages, 2, microbatches, pace)),
    )
    for limit, order in orders:
        on_top = max(waiting - 1, 0) / order.place.shape[1]
        assert max(in_flight(order, waiting)) <= min(limit, microbatches * max(waiting, 1)) + on_top + 1e-9


@pytest.mark.parametrize("schedule", ["zb-1p", "zb-v"])
def test_the_first_stage_fills_its_limit(schedule: str) -> None:
    chunks, order = SCHEDULES[schedule]
    assert in_flight(order(8, chunks, 32), Pace().waiting)[0] == pytest.approx(8)
