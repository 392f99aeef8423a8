"""What parallelism may not change: FLOP and parameters are conserved over ranks, degree 1 is the identity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import job

from simtrain.search.space import Space
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.flops import model_flops
from simtrain.workload.op import Attention, GroupedMatmul, Matmul
from simtrain.workload.parameters import parameters, total
from simtrain.workload.program import Program, program
from simtrain.workload.strategies import sharding

MODELS = ["llama-3-8b", "gpt-3-175b", "mixtral-8x7b", "deepseek-v3", "gemma-2-9b", "gpt-oss-20b", "qwen-3-30b-a3b"]


def sample(model: str, gpus: int, rows: int, seed: int) -> Program:
    asked = job(model, "dgx-h100", gpus, seq=2048, global_batch=64)
    plans = PlanTable.concatenate([plans for plans, _ in Space(asked).blocks()])
    chosen = np.random.default_rng(seed).integers(0, len(plans), rows)
    return program(asked, plans.take(chosen), fused_attention=True)


def forward_flops(described: Program) -> np.ndarray:
    """Forward FLOP of all ranks for one sequence, router apart (its columns are not counted by MFU alike)."""
    layers, stages = described.layers, described.stages
    layout, spread, index = stages.layout, stages.spread.index, layers.spread.index
    held = {
        "dense": (layout.count * layout.dense).sum(axis=0)[spread],
        "moe": (layout.count * (layout.layers - layout.dense)).sum(axis=0)[spread],
    }
    flops = np.zeros(len(described.plans))
    for block in layers.blocks:
        for op in block.ops:
            if op.phase == "forward" and isinstance(op.work, Matmul | GroupedMatmul | Attention):
                whole = np.broadcast_to(np.asarray(op.work.flops * op.weight, float), index.max() + 1)
                flops += held.get(block.name, 1.0) * whole[index]
    plans = described.plans
    return flops * plans.tp * plans.cp / plans.micro_batch


@pytest.mark.parametrize("model", MODELS)
def test_flops_are_conserved(model: str) -> None:
    """Every layout does the model's FLOP: but for replicated key-value heads and latent compression."""
    described = sample(model, 64, 400, 3)
    asked = described.job
    expected = model_flops(asked.model, asked.sequence, causal=True) / 3
    plans = described.plans
    replicated = plans.tp > asked.model.kv_heads
    if asked.model.latent is not None:
        replicated |= (plans.tp > 1) & (plans.sp == 0)
    ratio = forward_flops(described) / expected
    assert ratio[~replicated] == pytest.approx(1.0, rel=2e-3)
    assert (ratio >= 0.998).all()


@pytest.mark.parametrize("model", MODELS)
def test_parameters_are_conserved(model: str) -> None:
    """Summed over stages and tensor or expert ranks, a plan holds the model once."""
    described = sample(model, 64, 400, 5)
    plans, stages = described.plans, described.stages
    asked, counts = described.job, parameters(described.job.model)
    layout, spread = stages.layout, stages.spread.index
    dense = (layout.count * stages.states.dense.parameters).sum(axis=0)[spread]
    expert = (layout.count * stages.states.expert.parameters).sum(axis=0)[spread] * plans.ep * plans.etp
    model_, latent = asked.model, asked.model.latent
    compressing = model_.hidden * latent.compressed if latent else 0
    replicated = (
        model_.layers * compressing
        + model_.layers * counts.layer_norms
        + model_.moe_layers * counts.router
        + counts.positions
        + counts.final_norm
    )
    twice = np.where((plans.pp > 1) & model_.tied_embeddings, counts.embedding, 0)
    whole = (dense - replicated) * plans.tp + replicated - twice + expert
    assert whole == pytest.approx(total(model_), rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_layers_are_conserved(model: str) -> None:
    layout = sample(model, 64, 300, 11).stages.layout
    shape = job(model, seq=2048).model
    assert (layout.count * layout.layers).sum(axis=0) == pytest.approx(shape.layers)
    assert (layout.count * layout.dense).sum(axis=0) == pytest.approx(shape.layers - shape.moe_layers)


@settings(max_examples=60)
@given(st.sampled_from([1, 2, 4, 8, 16, 64]), st.sampled_from([0, 1, 2, 3]), st.sampled_from(MODELS))
def test_more_data_parallel_ranks_never_hold_more(dp: int, zero: int, model: str) -> None:
    asked = job(model, "dgx-h100", 128, global_batch=256, seq=2048)

    def states(degree: int) -> float:
        plan = Plan(dp=degree, zero=zero if degree > 1 else 0, shard_group=degree if zero else 1, global_batch=256)
        held = program(asked, PlanTable.of([plan]), True).stages.states
        return float((held.weights + held.gradients + held.optimizer)[0, 0])

    assert states(2 * dp) <= states(dp) * (1 + 1e-12)


def test_update_traffic_is_of_sharded_states() -> None:
    asked = job(gpus=8)
    plans = PlanTable.of([Plan(dp=8, zero=z, shard_group=8 if z else 1, global_batch=64) for z in (0, 1, 3)])
    described = program(asked, plans, True)
    held = described.stages.states.dense
    rows, index = described.stages.spread.rows, described.stages.spread.index
    counts = sharding.updated(asked, rows, held)[0][index]
    assert counts[0] == pytest.approx(8 * counts[1])
    assert counts[1] == counts[2]
