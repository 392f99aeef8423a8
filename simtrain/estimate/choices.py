"""What every kind of tensor of a layout's stages takes, and what making it again, moving or narrowing it costs."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.price import kernels
from simtrain.price.away import Moved
from simtrain.price.blocks import BlockTime, Machine
from simtrain.price.categories import CATEGORIES
from simtrain.price.host import ways
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.tensors import TENSORS
from simtrain.workload.ends import head_gradient
from simtrain.workload.made import made
from simtrain.workload.program import Program
from simtrain.workload.shard import Shard
from simtrain.workload.strategies.sharding import gradient_bytes

Array = NDArray[np.float64]
READ_BY_PRODUCTS: Final = ("normed", "routed", "activated")
"""Tensors in the format of the products that read them; the rest is as wide as activations."""
SCALE: Final = 4.0
"""Bytes of the scale of a quantised block."""


@dataclass(frozen=True)
class Passage:
    """One of the ways of what leaves a device (price.host.Way), and the seconds of a microbatch's passes that states
    take of it, shape (stages,)."""

    out: float
    """Seconds a byte, beside the forward pass."""
    back: float
    """Beside the backward pass."""
    taken_out: Array
    taken_back: Array


@dataclass(frozen=True)
class Choices:
    """What every kind of tensor of a stage costs, of one microbatch; arrays of shape (tensors, stages) unless said."""

    size: Array
    """Bytes of all the stage's layers."""
    layer: Array
    """Bytes of its largest layer."""
    again: Array
    """Seconds of making it again in all layers, shape (tensors, categories, stages)."""
    flops: Array
    """FLOP of making it again in all layers."""
    narrowed: Array
    """Seconds of keeping it in fewer bits: the pass that narrows it; the one that widens it takes as long."""
    layers: Array
    """Of each stage, shape (stages,)."""
    ratio: Array
    """Bytes kept in fewer bits over those as they are, shape (tensors,)."""
    passages: tuple[Passage, ...]
    """What leads to the plan's tier and back."""
    whole: Array
    """Bytes of its largest layer that chunks of the sequence do not make smaller: keys and values."""
    chunk: Array
    """Seconds each further chunk of a layer adds to a microbatch on a stage, shape (stages,)."""
    loss: tuple[float, float, float]
    """Bytes at the loss of one microbatch: of logits, which chunks divide; beside them; and beside chunks of them,
    where the weights' gradient is summed over the chunks."""
    loss_chunk: float
    """Seconds each further chunk of the loss adds to a microbatch."""

    def at_loss(self, chunks: int) -> float:
        """Bytes at the loss taken in so many chunks."""
        logits, beside, beside_chunks = self.loss
        return logits + beside if chunks == 1 else logits / chunks + beside_chunks

    def rebuilt(self, chunks: int) -> Array:
        """Bytes of one layer that exist at once while it is rebuilt in so many chunks."""
        return (self.layer - self.whole) / chunks + self.whole


def choices(
    described: Program,
    times: dict[str, BlockTime],
    on: Machine,
    row: int,
    stages: NDArray[np.int64],
    plan: MemoryPlan,
    states: Moved,
) -> Choices:
    """Of plan number `row` on its `stages` (representatives); of `plan` the tier and the bits are read.

    `states`: what else passes to the host and its drives.
    """
    job, layout = described.job, described.stages.layout
    at, stated = described.stages.spread.index[row], described.layers.spread.index[row]
    layers, dense = layout.layers[stages, at], layout.dense[stages, at]
    size, layer = (np.zeros((len(TENSORS), len(stages))) for _ in range(2))
    flops = np.zeros_like(size)
    again = np.zeros((len(TENSORS), len(CATEGORIES), len(stages)))
    for block, held in ((described.layers.dense, dense), (described.layers.moe, layers - dense)):
        if block is None:
            continue
        for index, name in enumerate(TENSORS):
            one = _at(block.saved.tensors.get(name, 0.0), stated)
            size[index] += one * held
            layer[index] = np.maximum(layer[index], one * (held > 0))
            if name in times[block.name].again:
                again[index] += times[block.name].again[name][:, stated][:, None] * held
        for op in block.phase("forward"):
            tensor = made(op)
            if tensor is not None:
                flops[TENSORS.index(tensor)] += _at(getattr(op.work, "flops", 0.0), stated) * op.weight * held
    precision, head = job.precision, described.layers.head.saved.tensors
    read = [
        precision.matmul_input_bytes if name in READ_BY_PRODUCTS else precision.activation_bytes for name in TENSORS
    ]
    ratio = np.minimum((plan.bits / 8 + SCALE / plan.block) / np.array(read), 1.0)
    moved = size * (1 + ratio[:, None])
    gradient = float(head_gradient(Shard(job, described.layers.spread.rows))[stated])
    logits, beside = (_at(head[name], stated) for name in ("loss", "head"))
    return Choices(
        size=size,
        layer=layer,
        again=again,
        flops=flops,
        narrowed=kernels.memory_bound(on.profile, moved, np.ones_like(moved)).seconds * (size > 0),
        layers=layers,
        ratio=ratio,
        passages=_passages(described, row, stages, plan, states),
        whole=layer * (np.array([[name == "projected"] for name in TENSORS]) * _of_keys(described)),
        chunk=_gradient_passes(described, on, row, stages),
        loss=(logits, beside, beside + gradient),
        loss_chunk=_head_pass(described, on, row),
    )


def _passages(
    described: Program, row: int, stages: NDArray[np.int64], plan: MemoryPlan, states: Moved
) -> tuple[Passage, ...]:
    """Link and drives. A link's directions do not meet: weights come in beside activations, and gradients go out while
    none do. Drives read or write."""
    at = described.stages.spread.index[row]
    weights, drives, gradients = (
        part[stages, at] for part in (states.weights_link, states.weights_drives, states.gradients_drives)
    )
    taken = ((np.zeros_like(weights), weights), (drives, drives + gradients))
    return tuple(
        Passage(way.out, way.back, *both) for way, both in zip(ways(described.job, plan.tier), taken, strict=False)
    )


def _at(values: object, row: int) -> float:
    """One row of a size that may be one for all."""
    found = np.asarray(values, float)
    return float(found[row] if found.ndim else found)


def _of_keys(described: Program) -> float:
    """Share of queries, keys and values that are keys and values: all layers' chunks read them in whole."""
    model = described.job.model
    query, value = model.head_dims
    keys = model.kv_heads * (query + value)
    return keys / (model.heads * query + keys)


def _gradient_passes(described: Program, on: Machine, row: int, stages: NDArray[np.int64]) -> Array:
    """Adding one more chunk's weight gradients to those of the chunks before, read and written."""
    states, at = described.stages.states, described.stages.spread.index[row]
    trained = states.dense.trained[stages, at] + states.expert.trained[stages, at]
    moved = 2 * gradient_bytes(described.job) * trained
    return np.asarray(kernels.memory_bound(on.profile, moved, np.ones_like(moved)).seconds)


def _head_pass(described: Program, on: Machine, row: int) -> float:
    """The same of the head's."""
    job = described.job
    moved = np.array([2 * gradient_bytes(job) * job.model.vocabulary * job.model.hidden / described.plans.tp[row]])
    return float(kernels.memory_bound(on.profile, moved, np.ones_like(moved)).seconds[0])
