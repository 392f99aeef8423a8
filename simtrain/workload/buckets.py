"""Buckets of gradients: how many collectives a stage's dense gradients travel in."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable
from simtrain.workload.parameters import parameters
from simtrain.workload.strategies.pipeline import Layout, Stages
from simtrain.workload.strategies.sharding import ends

_LAYERS: Final = 4
"""Layers after which the pattern of filled buckets is taken to repeat."""


def buckets(job: Job, plans: PlanTable, layout: Layout, width: float) -> Stages:
    """Buckets of whole tensors of `width` bytes an element; the last may be part of one.

    The tensor that fills a bucket closes it and is not divided, so large tensors are buckets of their own (PyTorch
    torch/csrc/distributed/c10d/reducer.cpp compute_bucket_assignment_by_size; NVIDIA/Megatron-LM
    megatron/core/distributed/param_and_grad_buffer.py; both recalled, not opened). Queries, keys and values are one
    tensor, as are gate and up.
    """
    limit = job.stack.bucket.value / width
    first, last = ends(job, plans, layout)
    outer = np.minimum(first / limit, layout.embedding) + np.minimum(last / limit, layout.head)
    mixed = layout.layers - layout.dense
    dense = layout.dense * _of_layer(_attention(job) + _mlp(job), plans.tp, limit)
    return np.asarray(dense + mixed * _of_layer(_attention(job) + _shared(job), plans.tp, limit) + outer)


def _attention(job: Job) -> tuple[float, ...]:
    model = job.model
    output = model.heads * (model.latent.value_head_dim if model.latent else model.head_dim) * model.hidden
    return output, parameters(model).attention - output


def _mlp(job: Job) -> tuple[float, ...]:
    down = job.model.hidden * job.model.ffn
    return down, parameters(job.model).dense_mlp - down


def _shared(job: Job) -> tuple[float, ...]:
    return (parameters(job.model).shared_expert + parameters(job.model).router,)


def _of_layer(tensors: tuple[float, ...], degree: NDArray[np.int64], limit: float) -> NDArray[np.float64]:
    """Buckets of `limit` elements that a layer fills whose `tensors` are split over `degree` ranks, shape (plans,)."""
    held, closed = np.zeros(len(degree)), np.zeros(len(degree))
    for size in tensors * _LAYERS:
        held += size / degree
        full = held >= limit
        closed += full
        held = np.where(full, 0.0, held)
    return np.asarray((closed + held / limit) / _LAYERS)
