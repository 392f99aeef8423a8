"""Explanations against plain re-evaluation."""

from dataclasses import replace

import pytest
from jobs import job

from simtrain.errors import WrongInput
from simtrain.estimate import machine
from simtrain.estimate.replayed import exact
from simtrain.search.search import search
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.memory_policy import actions_of
from simtrain.spec.plan import Plan, PlanTable
from simtrain.study.explain import Explanation, explain

ASKED = job("llama-3-8b", gpus=16, seq=8192, global_batch=64)
SLOW = Plan(tp=8, sp=True, dp=2, zero=1, shard_group=2, micro_batch=1, global_batch=64, recompute="full")


@pytest.fixture(scope="module")
def slow() -> Explanation:
    return explain(ASKED, SLOW, {"tp": "1", "zero": "1"})


def step_time(asked: object, plan: Plan, on: object) -> float:
    return float(exact(asked, PlanTable.of([plan]), on)[0].step_time[0])  # type: ignore[arg-type]


def test_the_best_plan_is_that_of_the_search(slow: Explanation) -> None:
    assert slow.best is not None
    assert slow.best.plan == search(ASKED, 5).best.plans.plan(0)
    assert slow.best.step_time < float(slow.estimate.step_time[0])


def test_gains_are_those_of_a_changed_machine(slow: Explanation) -> None:
    on = machine(ASKED)
    worth = {each.change: each.plan_gain for each in slow.worths}
    rate = on.rates.matmul.model_copy(update={"value": 1.1 * on.rates.matmul.value})
    faster = replace(on, rates=on.rates.model_copy(update={"matmul": rate}))
    now = step_time(ASKED, SLOW, on)
    assert worth["matrix multiplies 10 % faster"] == pytest.approx(now - step_time(ASKED, SLOW, faster))
    assert worth["1 GiB more memory a device"] == 0
    assert all(gain >= 0 for gain in worth.values())
    assert worth["half the latency of every message"] > 0
    assert worth["100 Gb/s more network a device"] > 0


def test_more_memory_never_hurts_the_best(slow: Explanation) -> None:
    assert slow.best is not None
    assert slow.unlimited.step_time <= slow.best.step_time
    assert all(worth.best_gain >= 0 for worth in slow.worths)


def test_memory_does_not_bind_where_no_amount_helps() -> None:
    asked = job("llama-3-8b", gpus=64, seq=4096, global_batch=64)
    assert not explain(asked, search(asked, 1).best.plans.plan(0), {}).memory_binds


def test_memory_binds_where_more_of_it_allows_a_faster_plan() -> None:
    asked = job("llama-3-70b", gpus=64, seq=8192, global_batch=64)
    best = search(asked, 3).best.plans.plan(0)
    found = explain(asked, best)
    assert found.memory_binds
    assert found.unlimited.memory > asked.cluster.device.memory.value


def test_where_nothing_fits() -> None:
    asked = job("llama-3-70b", gpus=8, seq=8192, global_batch=8)
    found = explain(asked, Plan(tp=8, sp=True, micro_batch=1, global_batch=8, recompute="full"))
    assert found.best is None
    assert found.memory_binds
    assert not found.estimate.fits[0]


def test_what_a_memory_plan_does() -> None:
    stages = [{"first": 0, "last": 1, "tensors": {"normed": {"recompute": 2}, "input": {"offload": 1}}}]
    plan = MemoryPlan.model_validate({"stages": stages, "tier": "nvme", "loss_chunks": 4})
    assert actions_of(plan) == ("recompute", "nvme", "chunk")
    assert actions_of(MemoryPlan()) == actions_of(None) == ()


def test_rates_the_step_rests_on(slow: Explanation) -> None:
    rests = slow.grounds.rests
    assert rests[0].what == "matrix multiplies"
    assert [rest.longer for rest in rests] == sorted((rest.longer for rest in rests), reverse=True)
    assert sum(rest.longer for rest in rests) < 0.1 * float(slow.estimate.step_time[0])
    assert slow.grounds.errors is not None
    assert slow.grounds.errors_of


def test_why_not_faster(slow: Explanation) -> None:
    other = slow.alternative
    assert other is not None
    assert (other.verdict, other.plan.tp, other.plan.zero) == ("faster", 1, 1)  # type: ignore[union-attr]
    assert sum(other.terms.values()) == pytest.approx(other.step_time - float(slow.estimate.step_time[0]), rel=1e-6)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ({"tp": "8", "recompute": "none"}, "slower"),
        ({"tp": "1", "pp": "1", "zero": "0", "recompute": "none", "micro_batch": "8", "cp": "1"}, "too big"),
        ({"tp": "3"}, "illegal"),
        ({"zero": "2", "tp": "16"}, "illegal"),
        ({"schedule": "zb-v"}, "illegal"),
        ({"micro_batch": "64", "tp": "16", "sp": "yes", "zero": "0"}, "slower"),
    ],
)
def test_why_not(asked: dict[str, str], verdict: str) -> None:
    from simtrain.study.alternative import alternative

    best = search(ASKED, 3).best.plans.plan(0)
    found = alternative(ASKED, best, asked)
    assert found.verdict == verdict
    assert bool(found.problems) == (verdict == "illegal")
    assert (found.missing > 0) == (verdict == "too big")


def test_values_between_the_steps_of_the_space() -> None:
    from simtrain.study.alternative import alternative

    best = search(ASKED, 3).best.plans.plan(0)
    found = alternative(ASKED, best, {"micro_batch": "64", "tp": "16"})
    assert found.plan is not None
    assert (found.plan.micro_batch, found.plan.tp) == (64, 16)


def test_the_same_plan_is_the_same() -> None:
    from simtrain.study.alternative import alternative

    best = search(ASKED, 3).best.plans.plan(0)
    assert alternative(ASKED, best, {"tp": str(best.tp), "pp": str(best.pp)}).verdict == "the same"


def test_options_that_are_none() -> None:
    with pytest.raises(WrongInput) as caught:
        explain(ASKED, SLOW, {"tpp": "8", "pp": "x", "sp": "maybe", "recompute": "some"})
    assert len(caught.value.problems) == 4
