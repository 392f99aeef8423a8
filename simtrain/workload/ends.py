"""Both ends of a transformer as operations: token embedding, head and loss."""

from dataclasses import replace
from typing import Final

import numpy as np

from simtrain.spec.tensors import TensorName
from simtrain.workload import adapters
from simtrain.workload.op import Block, Elementwise, Matmul, Message, Op, Saved, Values, both_ways
from simtrain.workload.shard import Array, Shard

ALIGNMENT: Final = 16
"""Bytes at whose multiples the rows of a tensor-core operand start (NVIDIA, "Matrix Multiplication Background User's
Guide", requirements to use tensor cores)."""


def embedding(shard: Shard) -> Block:
    """Token lookup, summed over the vocabulary shards of the tensor axis."""
    plans, size = shard.plans, shard.hidden_size
    ones, parallel = np.ones_like(plans.tp), 1.0 * (plans.tp > 1)
    reduced = Message("all_reduce", "tensor", size, plans.tp, ones, parallel * (1 - plans.sp))
    scattered = Message("reduce_scatter", "tensor", size, plans.tp, ones, parallel * plans.sp)
    gathered = Message("all_gather", "tensor", size, plans.tp, ones, parallel * plans.sp)
    ops = (
        *both_ways("embedding", "embedding", Elementwise(2 * size, 2 * size)),
        Op("embedding reduce", "embedding", "forward", reduced),
        Op("embedding scatter", "embedding", "forward", scattered),
        Op("embedding gather backward", "embedding", "backward", gathered),
    )
    if not shard.job.trained("embedding"):
        ops = tuple(op for op in ops if op.phase == "forward")
    return Block("embedding", ops, Saved({}, 0.0), np.zeros(len(plans)))


def head(shard: Shard) -> Block:
    """Final norm, vocabulary-parallel logits and cross-entropy (arXiv 1909.08053 section 3).

    Modules that predict further each bring the same once more, and a projection of two hidden states. Where the stack
    gathers the logits, every tensor rank has the loss of all of them. Holds the copies of the logits at the loss or,
    after it, their gradient and that of the head's weights.
    """
    job, plans = shard.job, shard.plans
    stack = job.stack
    vocabulary = shard.vocabulary
    aligned = vocabulary * job.precision.activation_bytes % ALIGNMENT == 0
    whole = stack.logits_gathered.value
    columns = vocabulary * np.where(whole, plans.tp, 1)
    logits = shard.tokens * columns * stack.logits_bytes.value
    returning = shard.tokens * columns * job.precision.activation_bytes
    size = shard.sequence_tokens * job.model.hidden * job.precision.activation_bytes
    ones = np.ones_like(plans.tp)
    parallel = 1.0 * (plans.tp > 1)
    reduced = Message("all_reduce", "tensor", 4 * shard.tokens, plans.tp, ones, 3.0 * parallel * (not whole))
    collected = Message("all_gather", "tensor", returning, plans.tp, ones, parallel * whole)
    gathered = Message("all_gather", "tensor", shard.hidden_size, plans.tp, ones, parallel * plans.sp)
    again = replace(gathered, times=gathered.times * stack.messages.gathered_again.value)
    returned = Message("all_reduce", "tensor", shard.hidden_size, plans.tp, ones, parallel * (1 - plans.sp))
    scattered = Message("reduce_scatter", "tensor", shard.hidden_size, plans.tp, ones, parallel * plans.sp)
    product = Matmul(shard.tokens, vocabulary, job.model.hidden, sensitive=True, aligned=aligned)
    ops = (
        *both_ways("final norm", "norm", Elementwise(2 * size, 3 * size)),
        *both_ways("logits", "loss", product),
        *both_ways("loss", "loss", Elementwise(4 * logits, 2 * logits)),
        Op("loss reduce", "loss", "forward", reduced),
        Op("logits gather", "loss", "forward", collected),
        Op("head gather", "loss", "forward", gathered),
        Op("head gather backward", "loss", "backward", again),
        Op("head reduce backward", "loss", "backward", returned),
        Op("head scatter backward", "loss", "backward", scattered),
    )
    output = shard.sequence_tokens * job.model.hidden * job.precision.matmul_input_bytes * job.trained("head")
    loss = logits * stack.loss_copies.value
    most, gradient = np.maximum(loss, returning), returning + head_gradient(shard)
    further = job.model.prediction_modules
    ops = (*(replace(op, weight=1.0 + further) for op in ops), *(_joined(shard) if further else ()))
    kept: dict[TensorName, Values] = {
        "head": (1 + further) * (size + output) + np.maximum(loss, gradient) - most,
        "loss": (1 + further) * most,
    }
    return Block("head", adapters.needed(job, "head", ops), Saved(kept, 0.0), size)


def _joined(shard: Shard) -> tuple[Op, ...]:
    """What a module that predicts further does before its layer: two norms and the projection of both hidden states."""
    hidden, further = shard.job.model.hidden, float(shard.job.model.prediction_modules)
    normed = 2 * shard.sequence_tokens * hidden * shard.job.precision.activation_bytes
    product = Matmul(shard.tokens, hidden / shard.plans.tp, 2 * hidden)
    return (
        *both_ways("further norms", "norm", Elementwise(2 * normed, 3 * normed), further),
        *both_ways("further projection", "loss", product, further),
    )


def head_gradient(shard: Shard) -> Array:
    """Bytes of the gradient of the head's weights while it is computed, beside the accumulated one."""
    width = shard.job.stack.head_gradient.value * shard.job.trained("head")
    return np.asarray(shard.vocabulary * shard.job.model.hidden * width)
