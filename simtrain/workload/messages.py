"""What a rank sends in a step: how many collectives of each kind on each axis, and bytes; counts only."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from simtrain.spec.schedule import SCHEDULES, TRAITS
from simtrain.workload.op import Message
from simtrain.workload.parameters import parameters
from simtrain.workload.program import Program
from simtrain.workload.strategies.recompute import full_share
from simtrain.workload.strategies.sharding import kept_whole, reduced_every, wire_bytes


@dataclass(frozen=True)
class Sent:
    """Collectives of one kind on one axis that a rank takes part in, a step."""

    axis: str
    collective: str
    count: float
    size: float
    """Bytes of all of them, each counted as nccl-tests does."""


def sent(program: Program, row: int, representative: int) -> tuple[Sent, ...]:
    """Of one plan, on a rank of one representative stage, where states travel block by block (messages.by_block)."""
    totals: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(axis: str, collective: str, count: float, size: float) -> None:
        if count * size > 0:
            totals[axis, collective][0] += count
            totals[axis, collective][1] += count * size

    for part in (_layers, _states, _norms, _hops):
        for entry in part(program, row, representative):
            add(*entry)
    return tuple(Sent(*key, *values) for key, values in sorted(totals.items()))


Entry = tuple[str, str, float, float]
"""Axis, collective, how often, bytes of each."""


def _held(program: Program, row: int, representative: int) -> dict[str, float]:
    layout, at = program.stages.layout, program.stages.spread.index[row]
    layers, dense = float(layout.layers[representative, at]), float(layout.dense[representative, at])
    ends = {name: float(getattr(layout, name)[representative, at]) for name in ("embedding", "head")}
    return {"dense": dense, "moe": layers - dense} | ends


def _layers(program: Program, row: int, representative: int) -> list[Entry]:
    """Messages inside blocks; what is recomputed sends its forward messages again."""
    plans, at = program.plans, program.layers.spread.index[row]
    held = _held(program, row, representative)
    stage_layers = held["dense"] + held["moe"]
    again = float(full_share(plans, np.full(len(plans), stage_layers))[row]) if stage_layers else 0.0
    found = []
    for block in program.layers.blocks:
        for op in block.ops:
            work = op.work
            if not isinstance(work, Message):
                continue
            size, times, degree = (_at(value, at) for value in (work.size, work.times, work.degree))
            runs = 1 + again * (op.phase == "forward" and block.name in ("dense", "moe"))
            count = times * runs * held[block.name] * int(plans.microbatches[row]) * op.weight
            found.append((str(work.axis), str(work.collective), count * (degree > 1), size))
    return found


def _at(value: object, row: int) -> float:
    array = np.asarray(value, float)
    return float(array if array.ndim == 0 else array[row])


def _states(program: Program, row: int, representative: int) -> list[Entry]:
    """Gradients and gathered weights of every block."""
    job, plans = program.job, program.plans
    at = program.stages.spread.index[row]
    states, held = program.stages.states, _held(program, row, representative)
    units = sum(held.values())
    zero, microbatches = int(plans.zero[row]), int(plans.microbatches[row])
    whole, every = bool(kept_whole(job, plans)[row]), bool(reduced_every(job, plans)[row])
    found: list[Entry] = []
    for kind, blocks in ((states.dense, units), (states.expert, held["moe"])):
        count = float(kind.parameters[representative, at])
        shards, replicas = float(kind.shards[at]), float(kind.replicas[at])
        if not blocks or not count or shards * replicas <= 1:
            continue
        wire = count * wire_bytes(job) / blocks
        times = blocks * (microbatches if every else 1)
        if zero == 0:
            found.append(("data", "all_reduce", times, wire))
            continue
        passes = 2 * microbatches if zero == 3 and not whole else 1
        gathered = count * job.precision.gathered_weight_bytes / blocks
        found.append(("data", "all_gather", blocks * passes * (shards > 1), gathered))
        found.append(("data", "reduce_scatter", times * (shards > 1), wire))
        found.append(("data", "all_reduce", times * (replicas > 1), wire / shards))
    return found


def _norms(program: Program, row: int, representative: int) -> list[Entry]:
    """Gradients of norms, summed over the tensor ranks once a step under sequence parallelism."""
    plans, held = program.plans, _held(program, row, representative)
    counts, at = parameters(program.job.model), program.stages.spread.index[row]
    weights = counts.layer_norms * (held["dense"] + held["moe"]) + counts.final_norm * held["head"]
    states = program.stages.states.dense
    shards = float(states.shards[at]) if int(plans.zero[row]) else 1.0
    return [("tensor", "all_reduce", float(plans.sp[row] == 1 and plans.tp[row] > 1), 4.0 * weights / shards)]


def _hops(program: Program, row: int, representative: int) -> list[Entry]:
    """Activations to the next chunk and gradients to the one before, where those are on another stage."""
    plans = program.plans
    stages, chunks = int(plans.pp[row]), int(plans.vpp[row])
    place = (0, 1, 1, stages - 1)[representative]
    folded = TRAITS[SCHEDULES[int(plans.schedule[row])]].folded
    sends = 0
    for chunk in range(chunks):
        back = folded and chunk % 2
        position = chunk * stages + (stages - 1 - place if back else place)
        turns_next = folded and (position + 1) % stages == 0
        turns_before = folded and position % stages == 0
        sends += (position < stages * chunks - 1) and not turns_next
        sends += position > 0 and not turns_before
    several = float(sends * int(plans.microbatches[row]) * (stages > 1))
    return [("pipeline", "point_to_point", several, float(program.hop_size[row]))]
