"""Closed forms against replays where stages differ, hosts take their time and chunks reduce one after another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import costs

from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.closed_form import Hops, exposed_reduction, pipeline
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.schedules.drawn import drawn
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.step import step
from simtrain.workload.strategies.pipeline import exchanges, neighbours_apart

lengths = st.floats(0.7, 1.3)


def closed(count: np.ndarray, forward: np.ndarray, backward: np.ndarray, microbatches: int, host: float = 0.0) -> float:
    """Seconds of a 1F1B step of representatives, messages free."""
    plans = PlanTable.of([Plan(pp=int(count.sum()), global_batch=microbatches)])
    free = Hops(np.zeros((4, 1)), exchanges(plans), np.zeros(1), np.zeros(1))
    found = pipeline(plans, count[:, None], forward[:, None], backward[:, None], free, 0.0, host=host)
    return float((found.busy + found.bubble + found.hops)[0])


def replayed(
    count: np.ndarray, forward: np.ndarray, backward: np.ndarray, microbatches: int, host: float = 0.0
) -> float:
    """The same, stage by stage."""
    stage = np.repeat(np.arange(4), count.astype(int))
    ahead, back = (part[stage][None, :, None] for part in (forward, backward))
    none = Traffic(np.zeros((len(stage), 1)))
    given_ = Costs(
        ahead, back, 0 * back, np.zeros(len(stage)), none, none, np.zeros(len(stage)), host=np.full_like(ahead, host)
    )
    return step(drawn("1f1b", len(stage), 1, microbatches, Pace()), given_).seconds


@settings(max_examples=200)
@given(st.tuples(*[lengths] * 4), st.integers(0, 3), st.integers(0, 6), st.integers(1, 40), st.floats(1.0, 2.5))
def test_stages_of_four_lengths(
    each: tuple[float, ...], fuller: int, inner: int, microbatches: int, ratio: float
) -> None:
    """1F1B: never longer than the replay, and at most 2.5 % shorter: stages wait for little else."""
    count = np.array([1.0, fuller, inner, 1.0])
    forward = np.array(each) * (count > 0)
    exact = replayed(count, forward, ratio * forward, microbatches)
    found = closed(count, forward, ratio * forward, microbatches)
    assert 0.975 * exact <= found <= exact * (1 + 1e-9)


@given(st.integers(2, 8), st.integers(1, 24), st.floats(0.0, 0.5))
def test_hosts_are_done_while_ranks_wait(stages: int, microbatches: int, host: float) -> None:
    """Equal stages: m (forward + backward + host) + (p - 1) (forward + backward), closed and replayed."""
    count = np.array([1.0, 0.0, stages - 2.0, 1.0])
    forward = 1.0 * (count > 0)
    law = microbatches * (3 + host) + (stages - 1) * 3
    assert closed(count, forward, 2 * forward, microbatches, host) == pytest.approx(law)
    assert replayed(count, forward, 2 * forward, microbatches, host) == pytest.approx(law)


@pytest.mark.parametrize("seconds", [0.5, 4.0, 20.0, 100.0])
@pytest.mark.parametrize("hidden", [0.0, 0.6, 1.0])
def test_gradients_of_chunks_are_reduced_behind_those_that_follow(seconds: float, hidden: float) -> None:
    """Interleaved, 4 stages of 3 chunks: the last chunk's own pass is all that its gradients hide behind."""
    stages, chunks, microbatches = 4, 3, 8
    once = Traffic(np.full((stages, chunks), seconds / chunks), hidden)
    order = drawn("interleaved", stages, chunks, microbatches, Pace())
    exact = step(order, costs(stages, chunks, reduction=once, buckets=16)).seconds
    still = step(order, costs(stages, chunks)).seconds
    plans = PlanTable.of([Plan(pp=stages, vpp=chunks, schedule="interleaved", global_batch=microbatches)])
    whole = np.full((4, 1), 2.0 * chunks)
    shown = exposed_reduction(plans, np.zeros((4, 1)), np.full((4, 1), seconds), whole, hidden)
    assert float(shown[0]) == pytest.approx(exact - still, abs=0.02 * still)


@pytest.mark.parametrize(("ranks", "share"), [(1, 0.5), (2, 0.5), (4, 0.5), (8, 1.0), (3, 1.0)])
def test_inner_stages_have_one_neighbour_in_another_domain(ranks: int, share: float) -> None:
    """Of domains of 8 ranks: both neighbours, where a domain holds less than two stages or cuts one."""
    plans = PlanTable.of([Plan(tp=ranks, pp=16, global_batch=16)])
    first, _, inner, last = neighbours_apart(plans, np.ones((4, 1)), 8)
    assert inner == share
    assert first == last == 1.0


def test_ends_exchange_further_chunks_with_each_other() -> None:
    plans = PlanTable.of([Plan(tp=4, pp=4, vpp=3, schedule="interleaved", global_batch=8)])
    leaves = np.array([[0.0], [1.0], [1.0], [0.0]])
    first, *_ = neighbours_apart(plans, leaves, 8)
    assert first == pytest.approx(2 / 5)
