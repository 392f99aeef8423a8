"""A plan laid over its stages: messages that leave a scale-up domain, layers of a chunk, seconds by what they go to."""

from typing import Any

import numpy as np
import pytest
from jobs import job

from simtrain.estimate import TERMS, machine
from simtrain.estimate.replayed import exact, replayed
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MADE_AGAIN, MemoryPlan, StageMemory, Treatment
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.graph import COMPUTE
from simtrain.timeline.order import BACKWARD


def of(asked: Job, **fields: Any):
    return replayed(asked, Plan(**fields), machine(asked))


@pytest.mark.parametrize(
    ("tp", "dp", "pp", "leaves"),
    [
        (2, 1, 8, [0, 0, 0, 1, 0, 0, 0, 1]),
        (8, 1, 2, [1, 1]),
        (2, 3, 4, [1, 1, 1, 1]),
        (2, 1, 4, [0, 0, 0, 0]),
    ],
)
def test_hops_that_leave_a_node_of_eight(tp: int, dp: int, pp: int, leaves: list[int]) -> None:
    """The last entry is the way back. Stages of six ranks lie on two nodes, or have their like on another."""
    asked = job("llama-3-8b", gpus=tp * dp * pp, global_batch=12)
    hops = of(asked, tp=tp, dp=dp, pp=pp, global_batch=12).step.costs.hops
    slow = hops > hops.min() * 1.5 if 0 in leaves and 1 in leaves else np.full(pp, bool(leaves[0]))
    assert slow.astype(int).tolist() == leaves
    if (tp, dp) == (2, 3):
        inside = of(job("llama-3-8b", gpus=8, global_batch=12), tp=2, pp=4, global_batch=12).step.costs.hops
        assert (hops > inside.max()).all()


def test_chunks_share_their_stages_passes() -> None:
    """Embedding with the first chunk, head with the last; all categories together are the stage's."""
    asked = job("llama-3-8b", gpus=4, global_batch=8)
    one, two = (
        of(asked, pp=4, vpp=v, schedule=s, global_batch=8).step.costs for v, s in ((1, "1f1b"), (2, "interleaved"))
    )
    assert two.forward.sum(axis=2) == pytest.approx(one.forward.sum(axis=2))
    assert (two.backward + two.weight).sum(axis=2) == pytest.approx((one.backward + one.weight).sum(axis=2))
    seconds = two.pass_seconds()[0]
    assert seconds[0, 0] > seconds[0, 1]
    assert seconds[3, 1] > seconds[3, 0]
    assert seconds[1, 0] == pytest.approx(seconds[1, 1])


def test_gathering_and_reduction_are_told_apart() -> None:
    """Both show around every pass of ZeRO 3; what stands between two passes is booked by its own seconds."""
    asked = job("llama-3-8b", gpus=8, global_batch=64, stack="torchtitan")
    plan = Plan(dp=8, zero=3, shard_group=8, global_batch=64, recompute="selective")
    found = of(asked, dp=8, zero=3, shard_group=8, global_batch=64, recompute="selective").step
    terms = dict(zip(TERMS, exact(asked, PlanTable.of([plan]), machine(asked))[1].terms[:, 0].tolist(), strict=True))
    gather, reduction = found.costs.gather, found.costs.reduction
    alone = (1 - gather.hidden) * (gather.seconds + gather.again).sum() * 8
    assert terms["parameter gathering"] == pytest.approx(alone, rel=0.02)
    assert terms["gradient reduction"] == pytest.approx((1 - reduction.hidden) * reduction.seconds.sum() * 8, rel=0.02)


def test_stages_that_recompute_differently() -> None:
    """Each stage's passes and memory over time are those of a plan that treats all stages as it treats that one."""
    asked = job("llama-3-8b", gpus=8, global_batch=16)
    some = {"attention": Treatment(recompute=8)}
    all_made = {name: Treatment(recompute=5) for name in MADE_AGAIN}

    def with_plan(*stages: StageMemory):
        return of(asked, tp=2, sp=True, pp=4, global_batch=16, memory=MemoryPlan(stages=stages))

    mixed = with_plan(StageMemory(first=0, last=0, tensors=all_made), StageMemory(first=2, last=3, tensors=some))
    alike = {
        (0,): with_plan(StageMemory(first=0, last=3, tensors=all_made)),
        (1,): with_plan(),
        (2, 3): with_plan(StageMemory(first=0, last=3, tensors=some)),
    }
    graph = mixed.step.graph
    backward = {}
    for stages, one in alike.items():
        for stage in stages:
            here = graph.stream(COMPUTE, stage)
            assert graph.seconds[here] == pytest.approx(one.step.graph.seconds[here])
            assert mixed.footprint.total[stage] == pytest.approx(one.footprint.total[stage])
            backward[stage] = graph.seconds[here][graph.kind[here] == BACKWARD].max()
    assert backward[0] > 1.1 * backward[2] > 1.1 * backward[1]
    assert mixed.footprint.activations[0].max() < 0.6 * alike[1,].footprint.activations[0].max()
    assert mixed.step.seconds < alike[0,].step.seconds
