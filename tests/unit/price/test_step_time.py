"""Seconds once a step: reductions, gathers, updates and hops, against the collectives they are made of."""

from typing import Any

import pytest
from jobs import job, uncalibrated

from simtrain.price import collectives
from simtrain.price.kernels import memory_bound
from simtrain.price.step import SyncTime, hop_seconds, sync_time
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.buckets import buckets
from simtrain.workload.parameters import total
from simtrain.workload.program import Program, program
from simtrain.workload.strategies.sharding import update_bytes

ASKED = job("llama-3-8b", gpus=64, global_batch=64)
COUNT = total(ASKED.model)


def described(asked: Job, **fields: Any) -> Program:
    return program(asked, PlanTable.of([Plan(**{"global_batch": 64} | fields)]), True)


def synced(asked: Job, **fields: Any) -> SyncTime:
    return sync_time(asked, uncalibrated(asked), described(asked, **fields).stages)


def alone(asked: Job, kind: Any, size: float, degree: int, stride: int, pieces: float) -> float:
    """One collective in equal pieces."""
    on = uncalibrated(asked)
    group = collectives.group(degree, stride, on.network.domain)
    return float(collectives.collective_seconds(on.network, kind, size / pieces, group).seconds) * pieces


def pieces(asked: Job) -> float:
    """Buckets of the whole model's gradients on the wire."""
    part = described(asked, dp=64).stages
    return float(buckets(asked, part.spread.rows, part.layout, asked.stack.reduction_bytes.value)[0, 0])


def test_unsharded_gradients_are_all_reduced_in_buckets() -> None:
    wire = COUNT * ASKED.stack.reduction_bytes.value
    found = synced(ASKED, dp=64)
    expected = alone(ASKED, "all_reduce", wire, 64, 1, pieces(ASKED))
    assert found.reduction[0, 0] == pytest.approx(expected)
    assert found.gather[0, 0] == 0


@pytest.mark.parametrize("zero", [1, 2])
def test_sharded_optimizer_scatters_then_gathers(zero: int) -> None:
    """ZeRO 1 and 2 (arXiv 1910.02054 section 7): reduce-scatter of gradients, all-gather of updated weights."""
    wire = COUNT * ASKED.stack.reduction_bytes.value
    found = synced(ASKED, dp=64, zero=zero, shard_group=64)
    assert found.reduction[0, 0] == pytest.approx(alone(ASKED, "reduce_scatter", wire, 64, 1, pieces(ASKED)))
    whole = COUNT * ASKED.precision.gathered_weight_bytes
    assert found.gather[0, 0] == pytest.approx(alone(ASKED, "all_gather", whole, 64, 1, pieces(ASKED)))


def test_late_gradients_are_all_reduced_in_one_call() -> None:
    """nanotron's ZeRO 1: no buckets beside the last backward pass, neither there nor in the gathers."""
    late = job("llama-3-8b", gpus=64, global_batch=64, stack="nanotron")
    found = synced(late, dp=64, zero=1, shard_group=64)
    assert found.reduction[0, 0] == pytest.approx(alone(late, "all_reduce", COUNT * 4, 64, 1, 1))
    assert found.gather[0, 0] == pytest.approx(alone(late, "all_gather", COUNT * 2, 64, 1, 1))
    plain = synced(late, dp=64)
    assert plain.reduction[0, 0] == pytest.approx(alone(late, "all_reduce", COUNT * 4, 64, 1, pieces(late)))


def test_hybrid_sharding_reduces_twice() -> None:
    """HSDP (arXiv 2304.11277 section 3.2.2): scattered in the node, the shards all-reduced between nodes."""
    wire = COUNT * ASKED.stack.reduction_bytes.value
    found = synced(ASKED, dp=64, zero=3, shard_group=8)
    layers = ASKED.model.layers
    inside = alone(ASKED, "reduce_scatter", wire, 8, 1, layers)
    between = alone(ASKED, "all_reduce", wire / 8, 8, 8, layers)
    assert found.reduction[0, 0] == pytest.approx(inside + between)
    whole = COUNT * ASKED.precision.gathered_weight_bytes
    assert found.gather[0, 0] == pytest.approx(alone(ASKED, "all_gather", whole, 8, 1, layers))


def test_tensors_travel_one_by_one_where_the_stack_says_so() -> None:
    """DeepSpeed of 2021: four matrices a layer, each a list of a slice for every rank; gathered and scattered so."""
    asked = job("gpt-3-175b", "selene", 64, seq=2048, global_batch=64, stack="deepspeed-2021", precision="fp16-mixed")
    found, messages = synced(asked, dp=64, zero=3, shard_group=64), 4 * asked.model.layers
    listed = messages * 64 * asked.stack.messages.member.value
    assert listed > 0
    whole = total(asked.model) * asked.precision.gathered_weight_bytes
    assert found.gather[0, 0] == pytest.approx(alone(asked, "all_gather", whole, 64, 1, messages) + listed)
    wire = total(asked.model) * asked.stack.reduction_bytes.value
    assert found.reduction[0, 0] == pytest.approx(alone(asked, "reduce_scatter", wire, 64, 1, messages) + listed)


@pytest.mark.parametrize(("dp", "owners"), [(64, 64), (512, 7 * 32)])
def test_owners_broadcast_whole_tensors(dp: int, owners: int) -> None:
    """InternEvo deals whole tensors out to ranks: a broadcast an owner, at most one a tensor."""
    asked = job("llama-2-7b", "dgx-a100", dp, seq=2048, global_batch=dp, stack="internevo")
    found = synced(asked, dp=dp, zero=1, shard_group=dp, global_batch=dp)
    whole = total(asked.model) * asked.precision.gathered_weight_bytes
    assert found.gather[0, 0] == pytest.approx(alone(asked, "broadcast", whole, dp, 1, owners))


def test_update_moves_the_states_a_rank_owns() -> None:
    on = uncalibrated(ASKED)
    for zero, owned in ((0, COUNT), (1, COUNT / 64), (3, COUNT / 64)):
        found = synced(ASKED, dp=64, zero=zero, shard_group=64 if zero else 1).update[0, 0]
        assert found == pytest.approx(float(memory_bound(on.profile, owned * update_bytes(ASKED)).seconds))


def test_nothing_is_synchronised_with_one_rank() -> None:
    found = synced(ASKED, tp=8, pp=8)
    assert (found.reduction == 0).all()
    assert (found.gather == 0).all()


def test_accumulation_is_the_stack_passes() -> None:
    """6 bytes a parameter where gradients are added outside the product, none where that is fused."""
    assert (synced(ASKED, dp=64).accumulation == 0).all()
    asked = job("llama-3-8b", gpus=64, stack="deepspeed")
    expected = memory_bound(uncalibrated(asked).profile, COUNT * asked.stack.accumulation_bytes.value).seconds
    assert synced(asked, dp=64).accumulation[0, 0] == pytest.approx(float(expected))


def test_experts_reduce_over_their_own_ranks() -> None:
    """Spread over 8 of 64 data-parallel ranks, an expert has 8 copies, 8 apart: less to reduce than a dense weight."""
    asked = job("mixtral-8x7b", gpus=64)
    states = described(asked, dp=64, ep=8).stages.states
    assert (states.expert.replicas[0], states.expert.stride[0]) == (8, 8)
    assert (states.dense.replicas[0], states.dense.stride[0]) == (64, 1)
    assert synced(asked, dp=64, ep=8).reduction[0, 0] < synced(asked, dp=64).reduction[0, 0]
    folded = described(asked, tp=4, sp=True, dp=16, ep=8).stages.states.expert
    assert (folded.replicas[0], folded.stride[0]) == (8, 8)


SPLITS = [
    (True, "megatron-core"),
    (False, "megatron-core"),
    (False, "megatron-lm-2022"),
    (False, "megatron-deepspeed"),
]


@pytest.mark.parametrize(("sp", "stack"), SPLITS)
def test_hops(sp: bool, stack: str) -> None:
    """The hidden state, or a tensor rank's part of it, gathered on arrival without sequence parallelism."""
    asked = job("llama-3-8b", gpus=64, stack=stack)
    whole = 4096 * 4096 * 2
    split = sp or asked.stack.scatter_gather.value
    found = described(asked, tp=4, sp=sp, pp=4, dp=4)
    inside, between = hop_seconds(uncalibrated(asked), found)
    size = whole / 4 if split else whole
    assert found.hop_size.item() == size
    gathered = alone(asked, "all_gather", whole, 4, 1, 1) if split and not sp else 0.0
    assert inside[0] == pytest.approx(alone(asked, "point_to_point", size, 2, 1, 1) + gathered)
    assert between[0] == pytest.approx(alone(asked, "point_to_point", size, 2, 8, 1) + gathered)
    assert between[0] > inside[0]


def test_whole_gradients_go_back_where_activations_are_split() -> None:
    """A message is the mean of a quarter that is gathered and of all of it."""
    asked = job("llama-3-8b", gpus=64, stack="megatron-deepspeed-2021")
    whole = 4096 * 4096 * 2
    _, between = hop_seconds(uncalibrated(asked), described(asked, tp=4, pp=4, dp=4))
    there = alone(asked, "point_to_point", whole / 4, 2, 8, 1) + alone(asked, "all_gather", whole, 4, 1, 1)
    assert between[0] == pytest.approx((there + alone(asked, "point_to_point", whole, 2, 8, 1)) / 2)


def test_one_stage_sends_nothing() -> None:
    inside, between = hop_seconds(uncalibrated(ASKED), described(ASKED, dp=64))
    assert inside[0] == between[0] == 0
