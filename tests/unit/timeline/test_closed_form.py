"""Pipeline closed form against published bubble formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job

from simtrain.spec.base import Fact
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.schedule import SCHEDULES
from simtrain.timeline.closed_form import Hops, Pipeline, exposed_gather, exposed_reduction, pipeline
from simtrain.workload.strategies.pipeline import crossings, exchanges, hop_leaves, in_flight, layout, splits
from simtrain.workload.strategies.sharding import reduced_every


def run(schedule: str, stages: int, microbatches: int, chunks: int = 1, hop: float = 0.0, hidden: float = 0.0):
    plans = PlanTable.of([Plan(pp=stages, vpp=chunks, schedule=schedule, global_batch=microbatches, micro_batch=1)])
    count = np.array([[1.0], [0.0], [max(stages - 2, 0.0)], [1.0 * (stages > 1)]])
    forward = (count > 0) * 1.0
    hops = Hops(np.full((4, 1), hop), exchanges(plans), np.array([hop * (stages - 1)]), np.array([hop]))
    return plans, pipeline(plans, count, forward, 2 * forward, hops, hidden)


def whole(result: Pipeline) -> float:
    """Seconds of the whole pipeline."""
    return float((result.busy + result.bubble + result.hops)[0])


@pytest.mark.parametrize(("microbatches", "expected"), [(1, 1.0), (4, 2.909), (32, 6.564)])
def test_gpipe_speedup_on_eight_stages(microbatches: int, expected: float) -> None:
    """GPipe (arXiv 1811.06965): K M / (M + K - 1) over one stage."""
    _, result = run("gpipe", 8, microbatches)
    assert 8 * 3.0 * microbatches / whole(result) == pytest.approx(expected, abs=5e-4)


@given(st.integers(2, 32), st.integers(1, 8), st.integers(1, 8))
def test_bubble_is_the_published_fraction(stages: int, rounds: int, chunks: int) -> None:
    """(p - 1) / (v m): Narayanan et al. (arXiv 2104.04473) section 2.2."""
    schedule = "interleaved" if chunks > 1 else "1f1b"
    _, result = run(schedule, stages, stages * rounds, chunks)
    assert result.bubble[0] / result.busy[0] == pytest.approx((stages - 1) / (chunks * stages * rounds))


@given(st.integers(2, 64), st.integers(1, 512))
def test_one_f_one_b_in_flight(stages: int, microbatches: int) -> None:
    """1F1B keeps p - s microbatches on stage s, never more than there are."""
    plans = PlanTable.of([Plan(pp=stages, schedule="1f1b", global_batch=microbatches)])
    position = np.array([[0.0], [1.0], [stages - 1.0]])
    expected = [min(microbatches, stages), min(microbatches, stages - 1), 1]
    assert in_flight(plans, position)[:, 0].tolist() == expected


def test_interleaved_in_flight() -> None:
    """p + (p - 1)/v on the first stage: Korthikanti et al. (arXiv 2205.05198) section 4.2.3."""
    plans = PlanTable.of([Plan(pp=8, vpp=3, schedule="interleaved", global_batch=64)])
    assert in_flight(plans, np.array([[0.0]]))[0, 0] == pytest.approx(8 + 7 / 3)


def test_gpipe_keeps_every_microbatch() -> None:
    plans = PlanTable.of([Plan(pp=4, schedule="gpipe", global_batch=32)])
    assert in_flight(plans, np.array([[0.0], [3.0]]))[:, 0].tolist() == [32, 32]


def test_hops_cost_until_they_hide() -> None:
    """1F1B waits for every hop; interleaving has other chunks to run, but not while the pipeline fills and drains: once
    through all p v chunks."""
    for hidden in (0.0, 1.0):
        assert run("1f1b", 4, 8, hop=0.1, hidden=hidden)[1].hops[0] == pytest.approx(0.1 * (2 * 8 + 2 * 3))
    shown, hides = (run("interleaved", 4, 8, 2, hop=0.1, hidden=hidden)[1].hops[0] for hidden in (0.0, 1.0))
    assert shown == pytest.approx(0.1 * (3 * 8 + 2 * 3))
    assert hides == pytest.approx(0.1 * 2 * (2 * 4 - 1))


def test_slow_last_stage_sets_the_pace() -> None:
    plans = PlanTable.of([Plan(pp=3, schedule="1f1b", global_batch=10)])
    count = np.array([[1.0], [0.0], [1.0], [1.0]])
    forward = np.array([[1.0], [0.0], [1.0], [2.0]])
    result = pipeline(
        plans, count, forward, forward, Hops(np.zeros((4, 1)), np.zeros((4, 1)), np.zeros(1), np.zeros(1)), 0.0
    )
    assert whole(result) == pytest.approx(10 * 4 + 2 + 2)


def test_hops_between_domains() -> None:
    """tp 2 on nodes of 8: every fourth hop leaves the node, neither the first nor the last of 32 stages' does."""
    leaves, through = crossings(PlanTable.of([Plan(tp=2, pp=32), Plan(tp=8, pp=4), Plan(tp=2, pp=4)]), 8)
    assert leaves.T.tolist() == [[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert through.tolist() == [7, 3, 0]


@pytest.mark.parametrize(("ranks", "domain"), [(2, 8), (6, 8), (3, 8), (12, 8)])
def test_any_rank_of_a_stage_that_leaves_its_domain(ranks: int, domain: int) -> None:
    """Rank by rank: where it lies, and where the next stage's like does."""
    stage = np.arange(8)
    each = ranks * stage[:, None] + np.arange(ranks)
    leaves = (each // domain != (each + ranks) // domain).any(axis=1)
    assert hop_leaves(ranks, stage, domain).tolist() == leaves.tolist()
    assert leaves.any()


@pytest.mark.parametrize(("zero", "rounds"), [(1, 1), (2, 4)])
def test_reduction_once_a_step_or_every_microbatch(zero: int, rounds: int) -> None:
    plans = PlanTable.of([Plan(dp=2, zero=zero, shard_group=2, global_batch=8)])
    stage = np.array([[3.0], [0.0], [0.0], [0.0]])
    every = np.array([zero == 2])
    shown, hidden = (
        exposed_reduction(plans, np.zeros((4, 1)), stage, stage, overlap, every=every)[0] for overlap in (0.0, 1.0)
    )
    assert shown == pytest.approx(3.0 * rounds)
    assert hidden == 0.0


def test_parameters_are_gathered_before_every_pass_under_stage_3() -> None:
    plans = PlanTable.of([Plan(dp=2, zero=zero, shard_group=2, global_batch=8) for zero in (1, 3)])
    gather = np.full((4, 2), 0.5)
    passes = np.zeros((4, 2))
    assert exposed_gather(plans, gather, gather, passes, passes, overlap=1.0).tolist() == [0.5, 0.5 * 2 * 4]
    twice = exposed_gather(plans, gather, 2 * gather, passes, passes, overlap=1.0)
    assert twice.tolist() == [0.5, 0.5 * 3 * 4]
    kept = np.array([True, True])
    assert exposed_gather(plans, gather, gather, passes, passes, 1.0, whole=kept).tolist() == [0.5, 0.5]


def test_gradients_kept_whole_are_reduced_once() -> None:
    plans = PlanTable.of([Plan(dp=2, zero=3, shard_group=2, global_batch=8)])
    stage = np.array([[3.0], [0.0], [0.0], [0.0]])
    asked = job("llama-3-8b", gpus=8)
    stack = asked.stack.model_copy(update={"whole_in_pipeline": Fact(value=True)})
    pipelined = PlanTable.of([Plan(pp=2, dp=2, zero=3, shard_group=2, global_batch=8)])
    every = reduced_every(asked.model_copy(update={"stack": stack}), pipelined)
    once = exposed_reduction(plans, np.zeros((4, 1)), stage, stage, overlap=0.0, every=every)
    assert once[0] == pytest.approx(3.0)


def test_only_a_draining_pipeline_has_slack_for_reductions() -> None:
    """The last stage of 1F1B is done early; of zero-bubble schedules it has weight gradients left."""
    plans = PlanTable.of([Plan(pp=4, dp=2, schedule=schedule, global_batch=16) for schedule in ("1f1b", "zb-1p")])
    position = np.array([[0.0], [1.0], [1.0], [3.0]]) * np.ones(2)
    reduction = np.array([[0.0], [0.0], [0.0], [3.0]]) * np.ones(2)
    shown = exposed_reduction(plans, position, reduction, np.ones((4, 2)), overlap=0.0)
    assert shown.tolist() == [0.0, 3.0]


def test_zero_bubble_schedules_split_their_backward_passes() -> None:
    plans = PlanTable.of([Plan(pp=4, schedule=schedule) for schedule in SCHEDULES])
    assert [name for name, split in zip(SCHEDULES, splits(plans), strict=True) if split] == [
        "zb-1p",
        "zb-2p",
        "zb-v",
        "dualpipe-v",
    ]


@pytest.mark.parametrize(("schedule", "expected"), [("zb-1p", 8), ("zb-2p", 16), ("zb-v", 8)])
def test_zero_bubble_schedules_hold_their_limit_everywhere(schedule: str, expected: int) -> None:
    """pM_B and 2pM_B: Qi et al. (arXiv 2401.10241) section 5.1; never more than there are microbatches."""
    position = np.array([[0.0], [3.0], [7.0]])
    for microbatches, alive in ((64, expected), (6, 6)):
        plans = PlanTable.of([Plan(pp=8, schedule=schedule, global_batch=microbatches)])
        assert in_flight(plans, position)[:, 0].tolist() == [alive] * 3


def test_a_folded_pipeline_has_both_ends_on_its_first_stage() -> None:
    """46 layers on 24 stages (Qi et al. table 6): two chunks of one layer, of which both ends give one up."""
    asked = job("gpt-3-175b", "dgx-a100", gpus=8, seq=2048)
    model = asked.model.model_copy(update={"layers": 46})
    plans = PlanTable.of([Plan(pp=24, vpp=2, schedule="zb-v"), Plan(pp=24)])
    found = layout(asked.model_copy(update={"model": model}), plans)
    assert (found.count * found.layers).sum(axis=0).tolist() == [46, 46]
    assert found.layers[:, 0].tolist() == [0, 0, 2, 2]
    assert found.head[:, 0].tolist() == [1, 0, 0, 0]
    assert found.head[:, 1].tolist() == [0, 0, 0, 1]
