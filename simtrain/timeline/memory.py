"""Peak device memory of every plan, by class, on its fullest stage."""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.schedule import FLOODS
from simtrain.workload.op import Block, waiting_elements
from simtrain.workload.program import Program
from simtrain.workload.strategies.pipeline import Stages, in_flight, splits
from simtrain.workload.strategies.recompute import SELECTIVE, full_share
from simtrain.workload.strategies.sharding import wire_bytes

CLASSES: Final = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "working set",
    "buffers",
    "fragmentation",
    "reserve",
)
DYNAMIC: Final = slice(CLASSES.index("activations"), CLASSES.index("fragmentation"))
"""Classes that come and go, which the allocator loses a share of."""
ROUNDING: Final = 1e-9
"""Relative difference of sums that are equal."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Memory:
    """Bytes by class on the fullest stage, shape (classes, plans), and which representative stage that is."""

    classes: NDArray[np.float64]
    stage: NDArray[np.int64]
    host: Array
    """Bytes of states in host memory for a device, shape (plans,)."""
    drives: Array
    """On drives."""
    by_stage: NDArray[np.float64]
    """The same on every representative stage, shape (classes, representatives, plans)."""

    def take(self, rows: NDArray[np.int64]) -> "Memory":
        """The same of some plans."""
        return Memory(**{name: part[..., rows] for name, part in vars(self).items()})

    @property
    def total(self) -> Array:
        """All classes together, shape (plans,)."""
        return functools.reduce(np.add, self.classes)


def _sizes(block: Block) -> tuple[Array, Array, Array]:
    """Bytes a layer of this block saves: everything, under selective recomputation, and its input alone."""
    kept = np.asarray(block.saved.kept, float)
    return kept, kept - block.saved.dropped, np.asarray(block.input_size, float)


def waiting_share(program: Program) -> Array:
    """M_W / M_B of arXiv 2401.10241 table 1, shape (plans,): bytes of one layer that its weight gradients are computed
    from over those its backward pass waits with."""
    layer, plans = program.layers.dense or program.layers.moe, program.plans
    assert layer is not None
    kept, lean, inputs = _sizes(layer)
    full = full_share(plans, program.job.model.layers / np.asarray(plans.pp, float))
    index = program.layers.spread.index
    backward = full * inputs[index] + (1 - full) * np.where(plans.recompute == SELECTIVE, lean[index], kept[index])
    waits = waiting_elements(layer) * program.job.precision.matmul_input_bytes
    return np.asarray(waits[index] / backward)


def _buffers(program: Program) -> Array:
    """Gathered and received tensors of tensor and pipeline messages, and the bucket of a gradient reduction."""
    plans = program.plans
    hidden = plans.micro_batch * program.job.sequence / plans.cp * program.job.model.hidden
    tensor = np.where(plans.tp > 1, 2 * hidden * program.job.precision.activation_bytes, 0.0)
    ahead = program.job.stack.messages.received_ahead.value
    pipeline = program.hop_size * (plans.microbatches if ahead else 2)
    bucketed = (plans.dp * plans.cp > 1) & (plans.zero < 3)
    bucket: Stages | float = program.job.stack.bucket.value
    if program.job.stack.messages.by_block.value:
        layout, spread = program.stages.layout, program.stages.spread.index
        blocks = np.maximum(layout.layers + layout.embedding + layout.head, 1)
        bucket = (program.stages.states.dense.trained / blocks * wire_bytes(program.job))[:, spread]
    return np.asarray(tensor + pipeline + np.where(bucketed, bucket, 0.0))


@dataclass(frozen=True)
class Launches:
    """How the host keeps up with the device, arrays of shape (plans,)."""

    ahead: NDArray[np.bool_]
    """It launches layers faster than the device runs them."""
    layers: Array
    """Layers whose forward pass fills its queue."""


def _unreleased(program: Program, launches: Launches, alive: Stages, layers: Stages) -> Stages:
    """Bytes that reduce-scatters read and that the device has not passed yet, shape as `alive`.

    A collective marks what it reads as used on its stream; freed, it can be taken again only when the device is
    through (pytorch/pytorch issue 147168). A host that is ahead fills its queue, if need be with the forward passes of
    all microbatches; one that is not has open what it launches in a row: all forward passes before the first backward
    pass but the one that runs and the one at the peak (nanotron-bench's reserved memory on 2 to 16 stages).

    An allocator that finds the device full waits for it and takes them back (c10/cuda/CUDACachingAllocator.cpp,
    release_cached_blocks): so did nanotron-bench's pipelines. Where logits want gigabytes in one piece it did not help:
    single stages mostly ran out of memory.
    """
    plans = program.plans
    whole = plans.micro_batch * program.job.sequence / plans.cp * program.job.model.hidden
    launched = np.where(plans.microbatches > alive, np.inf, alive * layers)
    open_passes = np.maximum(alive - 2, 0) * layers
    held = np.minimum(np.where(launches.ahead, launched, open_passes), launches.layers)
    return np.asarray(plans.sp * whole * program.job.stack.kept.reduced.value * held)


@dataclass(frozen=True)
class Holdings:
    """Bytes on every representative stage, shape (representatives, plans)."""

    states: tuple[Stages, Stages, Stages]
    """Weights, gradients, optimizer."""
    activations: Stages
    """Of one microbatch."""
    logits: Stages
    """Of one microbatch; where the head is."""
    working: Stages
    """What recomputation rebuilds of one layer."""
    gathered: Stages
    """Whole weights and gradients of sharded ones."""
    buffers: Stages


def holdings(program: Program, launches: Launches | None = None) -> Holdings:
    """What every representative stage holds, of one microbatch where it holds it for each.

    `launches`: none where nothing waits for the device (spec.stack.Kept.reduced).
    """
    plans = program.plans
    shapes, stages = program.layers, program.stages
    spread, index = stages.spread.index, shapes.spread.index
    layout = stages.layout
    layers, dense = layout.layers[:, spread], layout.dense[:, spread]
    full = full_share(plans, layers)
    chosen = plans.recompute == SELECTIVE
    activations = np.zeros_like(layers)
    working = np.zeros_like(layers)
    for block, held in ((shapes.dense, dense), (shapes.moe, layers - dense)):
        if block is None:
            continue
        kept, lean, inputs = (size[index] for size in _sizes(block))
        partly = np.where(chosen, lean, kept)
        activations += held * (full * inputs + (1 - full) * partly)
        rebuilt = np.where(full > 0, kept - inputs, np.where(chosen, kept - lean, 0.0))
        working = np.maximum(working, np.where(held > 0, rebuilt, 0.0))
    states = stages.states
    held_states = (states.weights[:, spread], states.gradients[:, spread], states.optimizer[:, spread])
    buffers = _buffers(program) + np.zeros_like(layers)
    if launches is not None:
        alive, lost = _alive(program), 1 + program.job.stack.fragmentation.value
        moving = lost * (alive * activations + working + states.gathered[:, spread] + buffers)
        capacity = (1 - ROUNDING) * program.job.cluster.device.memory.value - program.job.stack.reserve.value
        room = np.maximum(capacity - functools.reduce(np.add, held_states) - moving, 0.0) / lost
        room = np.where(layout.head[:, spread] > 0, np.inf, room)
        buffers = buffers + np.minimum(_unreleased(program, launches, alive, layers), room)
    return Holdings(
        states=held_states,
        activations=activations,
        logits=layout.head[:, spread] * np.asarray(shapes.head.saved.kept)[index],
        working=working,
        gathered=states.gathered[:, spread],
        buffers=buffers,
    )


def _alive(program: Program) -> Stages:
    """Microbatches in flight at the peak of every representative stage, shape (representatives, plans)."""
    plans, stages = program.plans, program.stages
    waiting = waiting_share(program) if splits(plans).any() else 0.0
    return in_flight(plans, stages.layout.position[:, stages.spread.index], waiting)


def memory(program: Program, launches: Launches | None = None) -> Memory:
    """Peak of each class over the stages of every plan, at the moment most microbatches are in flight."""
    job, plans = program.job, program.plans
    spread, layout = program.stages.spread.index, program.stages.layout
    held = holdings(program, launches)
    alive = _alive(program)
    at_loss = np.where(FLOODS[plans.schedule], plans.microbatches, 1)
    moving = (alive * held.activations, at_loss * held.logits, held.working + held.gathered, held.buffers)
    held_bytes = np.stack([*held.states, *moving])
    lost = job.stack.fragmentation.value * held_bytes[DYNAMIC].sum(axis=0)
    reserve = np.full_like(lost, job.stack.reserve.value)
    everything = np.concatenate([held_bytes, lost[None], reserve[None]]) * (layout.count[:, spread] > 0)
    stage = everything.sum(axis=0).argmax(axis=0)
    fullest = np.take_along_axis(everything, stage[None, None, :], axis=1)[:, 0, :]
    states = program.stages.states
    return Memory(fullest, stage, states.host.max(axis=0)[spread], states.drives.max(axis=0)[spread], everything)
