"""Buckets counted by hand: which tensors of a layer fill one."""

import pytest
from jobs import job

from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.buckets import buckets
from simtrain.workload.parameters import total
from simtrain.workload.program import program

DDP = job("llama-3-8b", gpus=64, global_batch=64, stack="nanotron")
"""Buckets of 12.5 million fp32 gradients; tensors of a layer: 16.8, 25.2, 58.7 and 117.4 million."""


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        (Plan(dp=64, global_batch=64), 32 * 4 + 2),
        (Plan(tp=8, sp=True, dp=8, global_batch=64), 32 * 2 + 2),
        (Plan(pp=32, dp=2, global_batch=64), 2 * 4 + 1),
    ],
)
def test_the_tensor_that_fills_a_bucket_closes_it(plan: Plan, count: float) -> None:
    """Whole, every matrix is a bucket of its own; an eighth of them, both of attention and the down projection."""
    plans = PlanTable.of([plan])
    layout = program(DDP, plans, True).stages.layout
    assert buckets(DDP, plans, layout, 4.0)[0, 0] == pytest.approx(count)


def test_large_buckets_hold_many_layers() -> None:
    asked = job("llama-3-8b", gpus=64, global_batch=64, stack="megatron-lm-2021")
    plans = PlanTable.of([Plan(tp=8, dp=8, global_batch=64)])
    layout = program(asked, plans, True).stages.layout
    gigabytes = total(asked.model) / 8 * 4 / 1e9
    assert buckets(asked, plans, layout, 4.0)[0, 0] == pytest.approx(gigabytes, rel=0.01)
