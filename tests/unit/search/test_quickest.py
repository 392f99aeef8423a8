"""The best plans alone are those of the whole search."""

import numpy as np
import pytest
from jobs import job

from simtrain.estimate import estimate, machine
from simtrain.estimate.bound import bound
from simtrain.search.quickest import quickest
from simtrain.search.search import search
from simtrain.search.space import Space
from simtrain.spec.job import Job

JOBS = {
    "dense": job(),
    "long": job(gpus=64, seq="64k"),
    "several batches": job(gpus=64, global_batch="64..256"),
    "mixture": job("mixtral-8x7b", gpus=32, global_batch="128"),
    "little room": job("llama-3-70b", gpus=16),
    "offload": job("llama-3-8b", "dgx-a100-40gb", gpus=8, stack="deepspeed-2021"),
    "zero bubble": job("llama-3-70b", gpus=64, stack="torchtitan"),
}


@pytest.mark.parametrize("asked", JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("top", [1, 5])
def test_the_same_plans_as_the_search(asked: Job, top: int) -> None:
    best, made = quickest(asked, top)
    whole = search(asked, top)
    assert [best.plans.plan(row) for row in range(len(best.plans))] == [
        whole.best.plans.plan(row) for row in range(len(whole.best.plans))
    ]
    np.testing.assert_array_equal(best.step_time, whole.best.step_time)
    np.testing.assert_array_equal(made.high, whole.detail.high)


def test_nothing_where_nothing_fits() -> None:
    assert len(quickest(job("llama-3-70b", gpus=1), 5)[0].plans) == 0


@pytest.mark.parametrize("asked", JOBS.values(), ids=JOBS)
def test_no_plan_is_faster_than_its_bound(asked: Job) -> None:
    on = machine(asked)
    plans = next(plans for plans, _ in Space(asked).blocks() if len(plans))
    assert (bound(asked, plans, on) <= estimate(asked, plans, on).step_time * (1 + 1e-9)).all()
