"""Frozen weights, and low-rank adapters beside them (LoRA, Hu et al., arXiv 2106.09685): what is computed and trained.

The query, key and value projection and the output projection each get a product of two thin matrices beside them
(section 4.2: attention weights only); nothing else has a gradient then. Layers may also be frozen in part (SlimFit,
arXiv 2305.18513): they are spread over the model, so gradients of activations pass through all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from simtrain.spec.frozen import Part
from simtrain.spec.job import Job
from simtrain.workload.op import Elementwise, GroupedMatmul, Matmul, Op, Values, both_ways
from simtrain.workload.shard import Shard

WITH_WEIGHTS: Final = ("projection", "latent up", "loss", "routing")
"""Roles whose products have a weight as an operand; those of core attention multiply activations."""


def needed(job: Job, part: Part, ops: Iterable[Op]) -> tuple[Op, ...]:
    """The ops of a part that run: frozen weights have no gradient, in as many layers as they are frozen in."""
    share = job.trained(part)
    weighed = (replace(op, weight=share * op.weight) if _weight_gradient(op) else op for op in ops)
    return tuple(op for op in weighed if op.weight > 0)


@dataclass(frozen=True)
class Side:
    """A tensor that enters or leaves a projection: hidden states outside the tensor-parallel region, heads inside."""

    width: Values
    positions: Values

    @property
    def elements(self) -> Values:
        """Of one rank."""
        return np.asarray(self.positions * self.width)


def beside(shard: Shard, name: str, entering: Side, leaving: Side) -> tuple[Op, ...]:
    """The adapter of a projection: dropout of its input, two thin products, their sum with the frozen output."""
    rank, tokens = shard.job.adapter_rank, shard.tokens
    if not rank:
        return ()
    width = shard.job.precision.activation_bytes
    dropped = (2 * width + 1) * entering.elements
    added = width * leaving.elements
    down = Matmul(tokens, rank, entering.width, sensitive=True, trained=True)
    up = Matmul(tokens, leaving.width, rank, sensitive=True, trained=True)
    return (
        *both_ways(f"{name} adapter dropout", "projection", Elementwise(dropped, dropped)),
        *both_ways(f"{name} adapter down", "projection", down),
        *both_ways(f"{name} adapter up", "projection", up),
        *both_ways(f"{name} adapter sum", "projection", Elementwise(3 * added, added)),
    )


def saved(job: Job, entering: Side) -> Values:
    """Bytes an adapter keeps for its backward pass besides what the projection keeps: dropped input and mask."""
    return entering.elements * (job.precision.activation_bytes + 1) * job.frozen


def trained_in_layer(job: Job) -> int:
    """Adapter weights of one layer."""
    model = job.model
    query, value = model.head_dims
    read = model.heads * query + model.kv_heads * (query + value)
    return job.adapter_rank * (model.hidden + read + model.heads * value + model.hidden)


def _weight_gradient(op: Op) -> bool:
    if op.role not in WITH_WEIGHTS or not isinstance(op.work, Matmul | GroupedMatmul):
        return False
    return op.work.operand == "weight" and not (isinstance(op.work, Matmul) and op.work.trained)
