"""Seconds of what happens once a step or once a stage: state synchronisation, update, hops between stages."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.states import SHARDED_FROM, held_bytes
from simtrain.price import away, collectives, kernels
from simtrain.price.away import Moved
from simtrain.price.blocks import Machine, link_rate
from simtrain.price.collectives import Group
from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable
from simtrain.workload.buckets import buckets
from simtrain.workload.parameters import parameters
from simtrain.workload.program import Program, StatePart
from simtrain.workload.strategies.offload import updated_away
from simtrain.workload.strategies.pipeline import Stages
from simtrain.workload.strategies.sharding import Holding, reduced_late, update_bytes, updated, wire_bytes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SyncTime:
    """Seconds of one of each on every representative stage, shape (representatives, rows)."""

    reduction: Stages
    gather: Stages
    update: Stages
    accumulation: Stages
    """A microbatch's gradients added to the accumulated ones."""
    moved: Moved
    """States that come and go with a microbatch's passes."""
    tied: Array
    """Gradients of tied embeddings summed between the first and the last stage, once a step, shape (rows,)."""


def sync_time(job: Job, machine: Machine, part: StatePart) -> SyncTime:
    """Price gradient reduction, parameter gathering and the optimizer update of every way to shard."""
    plans = part.spread.rows
    wire = wire_bytes(job)
    reduction, gather, update, accumulation = (np.zeros_like(part.layout.layers) for _ in range(4))
    late = reduced_late(job, plans)
    messages = job.stack.messages
    tensors = np.maximum(part.layout.layers, 1) * messages.layer.value
    moved: list[Moved] = []
    for kind in (part.states.dense, part.states.expert):
        even = kind.trained * wire / job.stack.bucket.value
        filled = buckets(job, plans, part.layout, wire) if kind is part.states.dense and job.trains_all else even
        pieces = np.where(late, 1.0, np.where(plans.zero == 3, tensors, np.maximum(filled, 1)))
        if messages.by_block.value:
            pieces = np.maximum(part.layout.layers + part.layout.embedding + part.layout.head, 1)
        several = (plans.zero == 3) & (kind.parameters > 0) & (kind.shards > 1)
        listed = pieces * kind.shards * messages.member.value * several
        reduced = _reduce(machine, kind, kind.trained * wire, pieces, (plans.zero == 0) | late) + listed
        changed = np.where(plans.zero == 3, kind.parameters, kind.trained)
        whole_bytes = job.precision.gathered_weight_bytes
        whole = changed * whole_bytes
        gathered = _over(machine, "all_gather", whole, pieces, *_shards(machine, kind)) + listed
        if messages.broadcast.value:
            owners = np.minimum(kind.shards, tensors)
            sent = _over(machine, "broadcast", whole, owners, *_shards(machine, kind))
            gathered = np.where(plans.zero == 3, gathered, sent)
        moved.append(one := away.moved(job, plans, kind))
        reduction += np.maximum(reduced, one.gradients)
        gather += np.maximum(np.where(plans.zero >= 1, gathered, 0.0), one.weights)
        own = _pass(machine, updated(job, plans, kind) * update_bytes(job))
        update += away.update(job, plans, kind, own)
        added = kind.trained * job.stack.accumulation_bytes.value
        if messages.by_block.value:
            added = held_bytes(added, 1.0, plans.zero, SHARDED_FROM["gradients"], kind.shards)
            added *= 1 - 1 / np.maximum(plans.microbatches, 1)
        cast = kind.trained * job.stack.cast_bytes.value * (job.precision.weight_bytes < job.precision.master_bytes)
        accumulation += _pass(machine, added + np.where(updated_away(job, plans), 0.0, cast))
    return SyncTime(reduction, gather, update, accumulation, moved[0] + moved[1], _tied(job, machine, plans, wire))


def _tied(job: Job, machine: Machine, plans: PlanTable, wire: float) -> Array:
    """Megatron-LM's all-reduce of the embedding's gradient between both ends of the pipeline (arXiv 1909.08053)."""
    if not job.model.tied_embeddings or not job.trained("embedding"):
        return np.zeros(len(plans))
    size = parameters(job.model).embedding / plans.tp * wire
    inside = plans.tp * plans.cp * plans.dp * plans.pp <= machine.network.domain
    pair = Group(np.full(len(plans), 2.0), np.where(inside, 2.0, 1.0))
    seconds = collectives.collective_seconds(machine.network, "all_reduce", size, pair).seconds
    return np.where((plans.pp > 1) & (plans.folded == 0), seconds / link_rate(machine, pair), 0.0)


def _pass(machine: Machine, size: Stages) -> Stages:
    """A memory-bound pass over `size` bytes."""
    return kernels.memory_bound(machine.profile, size).seconds / machine.rates.elementwise.value


def _shards(machine: Machine, kind: Holding) -> tuple[NDArray[np.float64], Group]:
    return kind.shards, collectives.group(kind.shards, kind.stride, machine.network.domain)


def _replicas(machine: Machine, kind: Holding) -> tuple[NDArray[np.float64], Group]:
    return kind.replicas, collectives.group(kind.replicas, kind.stride * kind.shards, machine.network.domain)


def _over(
    machine: Machine, name: collectives.Kind, size: Stages, pieces: Stages, degree: NDArray[np.float64], group: Group
) -> Stages:
    """One collective of `size` bytes in `pieces` equal parts; nothing where the group is a single rank.

    The host calls a part while the one before is on its way.
    """
    moved = collectives.collective_seconds(machine.network, name, size / pieces, group).seconds
    called = collectives.call_seconds(machine.network, group)
    seconds = np.maximum(moved / link_rate(machine, group), called) * pieces
    return np.where((degree > 1) & (size > 0), seconds, 0.0)


def _reduce(machine: Machine, kind: Holding, size: Stages, pieces: Stages, whole: NDArray[np.bool_]) -> Stages:
    """All-reduce of `whole` gradients; else reduce-scatter in the shard group, then all-reduce between groups."""
    within, between = _shards(machine, kind), _replicas(machine, kind)
    degree = kind.shards * kind.replicas
    everyone = degree, collectives.group(degree, kind.stride, machine.network.domain)
    scattered = _over(machine, "reduce_scatter", size, pieces, *within)
    across = _over(machine, "all_reduce", size / kind.shards, pieces, *between)
    return np.where(whole, _over(machine, "all_reduce", size, pieces, *everyone), scattered + across)


def hop_seconds(machine: Machine, program: Program) -> tuple[Array, Array]:
    """One microbatch's message to a neighbouring stage inside a scale-up domain, and between two, shape (plans,).

    A message the stack splits over the tensor group is gathered there on arrival (arXiv 2104.04473 section 4.1); where
    it splits activations only, the mean of an activation and a gradient.
    """
    size, plans = program.hop_size, program.plans
    split = program.job.stack.scatter_gather.value & (plans.sp == 0) & (plans.tp > 1)
    gathered = np.zeros(len(plans))
    if split.any():
        tensor = collectives.group(plans.tp, np.ones_like(plans.tp), machine.network.domain)
        seconds = collectives.collective_seconds(machine.network, "all_gather", size * plans.tp, tensor).seconds
        gathered = np.where(split, seconds / link_rate(machine, tensor), 0.0)
    whole = split & program.job.stack.gradients_whole.value
    gathered = gathered * np.where(whole, 0.5, 1.0)
    sizes = np.stack([size, size * np.where(whole, plans.tp, 1)])

    def message(local: float) -> Array:
        pair = Group(np.array([2.0]), np.array([local]))
        seconds = collectives.collective_seconds(machine.network, "point_to_point", sizes, pair).seconds
        carried = seconds.mean(axis=0) / link_rate(machine, pair)
        return np.asarray((plans.pp > 1) * (carried + gathered + program.job.stack.message_overhead.value))

    return message(2.0), message(1.0)
