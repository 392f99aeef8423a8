"""Finer steps around a plan."""

from jobs import job

from simtrain.search.refine import neighbours
from simtrain.search.space import broken_rules
from simtrain.spec.plan import Plan, PlanTable

ASKED = job("llama-3-8b", gpus=16, global_batch=96, seq=2048)
PLAN = Plan(tp=2, dp=8, zero=1, shard_group=8, micro_batch=1, global_batch=96)


def test_every_microbatch_and_number_of_layers_and_group() -> None:
    found = neighbours(ASKED, PlanTable.of([PLAN]))
    assert not any(broken_rules(ASKED, found))
    assert sorted(set(found.micro_batch.tolist())) == [1, 2, 3, 4, 6, 12]
    assert sorted(set(found.full_layers.tolist())) == list(range(32))
    assert sorted(set(found.shard_group.tolist())) == [2, 4, 8]


def test_full_recomputation_has_no_layers_to_choose() -> None:
    found = neighbours(ASKED, PlanTable.of([PLAN.model_copy(update={"recompute": "full"})]))
    assert set(found.full_layers.tolist()) == {0}


def test_nothing_around_nothing() -> None:
    assert len(neighbours(ASKED, PlanTable.of([]))) == 0
