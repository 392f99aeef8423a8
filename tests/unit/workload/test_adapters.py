"""Adapters beside a frozen model: which products run, what is trained, what is kept."""

import numpy as np
import pytest
from jobs import job

from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload import adapters, blocks, ends
from simtrain.workload.op import Block, GroupedMatmul, Matmul
from simtrain.workload.program import program
from simtrain.workload.shard import Shard


def frozen(asked: Job, rank: int = 16) -> Job:
    return asked.model_copy(update={"adapter_rank": rank})


def layer(asked: Job, moe: bool = False) -> Block:
    return blocks.layer(Shard(asked, PlanTable.of([Plan()])), moe, fused_attention=True)


def flops(block: Block, phase: str) -> float:
    products = (op.work for op in block.phase(phase) if isinstance(op.work, Matmul | GroupedMatmul))  # type: ignore[arg-type]
    return float(sum(np.asarray(work.flops, float).sum() for work in products if not getattr(work, "trained", False)))


@pytest.mark.parametrize(("model", "moe"), [("llama-2-70b", False), ("mixtral-8x7b", True)])
def test_a_frozen_layer_has_no_weight_gradients(model: str, moe: bool) -> None:
    asked = job(model)
    assert flops(layer(asked, moe), "backward") == pytest.approx(2 * flops(layer(asked, moe), "forward"))
    assert flops(layer(frozen(asked), moe), "backward") == pytest.approx(flops(layer(asked, moe), "forward"))


def test_scores_keep_both_gradients() -> None:
    """Unfused scores multiply activations: neither operand is a weight."""
    asked = job("gpt-3-175b", "dgx-1v", 64, seq=2048, stack="megatron-lm-2021", precision="fp16-mixed")
    shard = Shard(frozen(asked), PlanTable.of([Plan()]))
    names = [op.name for op in blocks.layer(shard, False, fused_attention=False).ops]
    assert names.count("scores backward") == 2
    assert names.count("feed-forward up backward") == 1


def test_adapter_weights_of_llama_2_70b() -> None:
    """Rank 16 on attention: the 44.6 M trained weights of MLPerf's reference (80 layers, 557,056 each)."""
    rank, hidden, queries, keys = 16, 8192, 8192, 1024
    in_layer = rank * ((hidden + queries + 2 * keys) + (queries + hidden))
    assert adapters.trained_in_layer(frozen(job("llama-2-70b"))) == in_layer
    held = program(frozen(job("llama-2-70b")), PlanTable.of([Plan()]), True).stages.states
    assert held.dense.trained.sum() == 80 * in_layer


def test_frozen_weights_are_held_and_gathered_but_not_reduced() -> None:
    plans = PlanTable.of([Plan(dp=16, zero=3, shard_group=16, global_batch=64)])
    asked = job("llama-2-70b")
    part, whole = (program(found, plans, True).stages.states for found in (frozen(asked), asked))
    assert np.array_equal(part.weights, whole.weights)
    assert np.array_equal(part.dense.parameters, whole.dense.parameters)
    assert (part.dense.trained < 0.001 * whole.dense.trained.max()).all()
    assert part.gathered.max() < whole.gathered.max()


def test_a_single_copy_of_frozen_weights_is_still_held() -> None:
    """FSDP keeps full-precision weights as the optimizer's; frozen ones have no optimizer and stay as they are."""
    plans = PlanTable.of([Plan(dp=8, zero=3, shard_group=8, global_batch=64)])
    asked = frozen(job("llama-3-8b", gpus=8, stack="torchtitan"))
    held = program(asked, plans, True).stages.states
    assert held.weights[0, 0] == pytest.approx(2 * held.dense.parameters[0, 0] / 8)


def test_inputs_that_only_a_weight_gradient_reads_are_not_kept() -> None:
    """Both norms' and the activation's output go; the adapters keep a dropped copy of theirs."""
    asked = job("llama-2-70b", seq=1024)
    model, tokens = asked.model, 1024
    gone = 2 * tokens * (2 * model.hidden + model.ffn)
    kept = 3 * tokens * (model.hidden + model.heads * model.head_dim)
    difference = layer(asked).saved.kept - layer(frozen(asked)).saved.kept
    assert float(np.sum(difference)) == pytest.approx(gone - kept)


def test_nothing_below_the_first_adapter_has_a_gradient() -> None:
    asked = Shard(frozen(job("llama-2-70b")), PlanTable.of([Plan(tp=4, sp=True)]))
    assert not ends.embedding(asked).phase("backward")
    assert [op.name for op in ends.head(asked).ops].count("logits backward") == 1
