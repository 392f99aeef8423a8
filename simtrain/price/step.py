"""Seconds of what happens once a step or once a stage: state synchronisation, update, hops between stages."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.price import collectives, kernels
from simtrain.price.blocks import Machine
from simtrain.price.collectives import Group
from simtrain.spec.job import Job
from simtrain.workload.op import Collective, Message
from simtrain.workload.program import StatePart
from simtrain.workload.strategies.pipeline import Stages
from simtrain.workload.strategies.sharding import Holding, update_bytes, updated


@dataclass(frozen=True)
class SyncTime:
    """Seconds on each representative stage, shape (representatives, rows): one reduction, one gather, one update."""

    reduction: Stages
    gather: Stages
    update: Stages


def sync_time(job: Job, machine: Machine, part: StatePart) -> SyncTime:
    """Price gradient reduction, parameter gathering and the optimizer update of every way to shard."""
    plans = part.spread.rows
    wire = max(job.stack.reduction_bytes.value, job.precision.minimum_gradient_bytes)
    reduction, gather, update = (np.zeros_like(part.layout.layers) for _ in range(3))
    for kind in (part.states.dense, part.states.expert):
        pieces = np.where(
            plans.zero == 3,
            np.maximum(part.layout.layers, 1),
            np.maximum(kind.parameters * wire / job.stack.bucket.value, 1),
        )
        reduced = _reduce(machine, kind, kind.parameters * wire, pieces, plans.zero)
        whole = kind.parameters * job.precision.gathered_weight_bytes
        gathered = _over(machine, "all_gather", whole, pieces, *_shards(machine, kind))
        reduction += reduced
        gather += np.where(plans.zero >= 1, gathered, 0.0)
        update += kernels.memory_bound(machine.profile, updated(job, plans, kind) * update_bytes(job)).seconds
    return SyncTime(reduction, gather, update)


def _shards(machine: Machine, kind: Holding) -> tuple[NDArray[np.float64], Group]:
    return kind.shards, collectives.group(kind.shards, kind.stride, machine.network.domain)


def _replicas(machine: Machine, kind: Holding) -> tuple[NDArray[np.float64], Group]:
    return kind.replicas, collectives.group(kind.replicas, kind.stride * kind.shards, machine.network.domain)


def _over(
    machine: Machine, name: Collective, size: Stages, pieces: Stages, degree: NDArray[np.float64], group: Group
) -> Stages:
    """One collective of `size` bytes in `pieces` equal parts; nothing where the group is a single rank."""
    seconds = collectives.collective_seconds(machine.network, name, size / pieces, group).seconds * pieces
    return np.where((degree > 1) & (size > 0), seconds, 0.0)


def _reduce(machine: Machine, kind: Holding, size: Stages, pieces: Stages, zero: NDArray[np.int64]) -> Stages:
    """All-reduce when nothing is sharded; else reduce-scatter in the shard group, then all-reduce between groups."""
    within, between = _shards(machine, kind), _replicas(machine, kind)
    scattered = _over(machine, "reduce_scatter", size, pieces, *within)
    across = _over(machine, "all_reduce", size / kind.shards, pieces, *between)
    return np.where(zero == 0, _over(machine, "all_reduce", size, pieces, *between), scattered + across)


def hop_seconds(machine: Machine, hop: Message) -> NDArray[np.float64]:
    """One microbatch's message to the next stage, between domains as soon as any neighbours lie in different ones."""
    degree, stride = np.asarray(hop.degree, float), np.asarray(hop.stride, float)
    inside = degree * stride <= machine.network.domain
    pair = Group(np.full_like(degree, 2.0), np.where(inside, 2.0, 1.0))
    seconds = collectives.collective_seconds(machine.network, "point_to_point", hop.size, pair).seconds
    return np.asarray(seconds * hop.times)
