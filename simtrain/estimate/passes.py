"""Seconds of one microbatch on every representative stage: what both the closed form and the replay start from."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.collectives import spread as last_of
from simtrain.laws.power import capped_clock
from simtrain.price.blocks import BlockTime, Machine, block_time
from simtrain.price.categories import CATEGORIES, ELEMENTWISE, LAUNCH, summed
from simtrain.price.collectives import network
from simtrain.price.launched import LAYERS, queued
from simtrain.price.profile import UNFUSED, attention_kernel, profile
from simtrain.price.step import hop_seconds, sync_time
from simtrain.spec import load
from simtrain.spec.calibration import device_rates
from simtrain.spec.hardware import Device
from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable
from simtrain.timeline.closed_form import Hops
from simtrain.timeline.memory import Launches
from simtrain.workload.program import Program, program
from simtrain.workload.strategies.pipeline import crossings, exchanges, neighbours_apart
from simtrain.workload.strategies.recompute import SELECTIVE, full_share

Array = NDArray[np.float64]
WIDEST_FUSED: Final = 2
"""Bytes of the widest element fused attention takes on a GPU: FlashAttention is 16-bit (arXiv 2205.14135). PyTorch's
kernel for processors takes all."""
BLOCKS: Final = (*LAYERS, "embedding", "head")


@dataclass(frozen=True)
class Passes:
    """Seconds of one microbatch, shape ([categories,] representatives, plans)."""

    forward: Array
    backward: Array
    """Rebuilt activations and both gradients."""
    weight: Array
    """Of `backward`, the weights' gradients, which could wait; shape (representatives, plans)."""
    hidden: Array
    """Seconds of messages beside forward and backward, shape (2, categories, representatives, plans); by category only,
    else of no category."""


def machine(job: Job) -> Machine:
    """Profile, network and attention kernel of a job."""
    described = job.cluster.device
    device = profile(described)
    wide = job.precision.activation_bytes > WIDEST_FUSED and described.architecture != "cpu"
    wanted = "unfused" if wide else job.stack.attention_kernel.value
    return Machine(
        profile=device,
        network=network(job.cluster, job.domain),
        attention_kernel=attention_kernel(device, wanted),
        clock=_clock(described),
        rates=device_rates(
            job.cluster.node.name, described.profile, described.name, described.silicon, described.architecture
        ),
    )


def _clock(device: Device) -> float:
    """Sustained clock over that of the device the kernels were measured on."""
    if device.profile is None or device.idle_power is None or Path(device.profile).is_absolute():
        return 1.0
    measured = load.device(device.profile)
    return capped_clock(device.power_limit.value, measured.power_limit.value, device.idle_power.value)


def priced(job: Job, plans: PlanTable, on: Machine) -> tuple[Program, dict[str, BlockTime]]:
    """What a step holds, and the seconds of its blocks."""
    described = program(job, plans, fused_attention=on.attention_kernel not in UNFUSED)
    rows = len(described.layers.spread.rows)
    return described, {block.name: block_time(block, job, on, rows) for block in described.layers.blocks}


def launches(described: Program, times: dict[str, BlockTime]) -> Launches | None:
    """How the host keeps up, by the fuller of two kinds of layers; none where the stack holds nothing for it."""
    if not described.job.stack.kept.reduced.value:
        return None
    held = [block for block in described.layers.blocks if block.name in LAYERS]
    index = described.layers.spread.index
    ahead = np.logical_and.reduce([times[block.name].slack >= 0 for block in held])
    layers = functools.reduce(np.minimum, [queued(block, described.job) for block in held])
    return Launches(ahead[index], np.broadcast_to(layers, ahead.shape)[index])


def stage_passes(
    described: Program,
    times: dict[str, BlockTime],
    accumulation: Array,
    total: bool,
    split: bool,
    blocks: Sequence[str] = BLOCKS,
) -> Passes:
    """Seconds of one microbatch in some blocks of every representative stage, by category or, with `total`, in all;
    those of weight gradients only where they are `split` from the backward pass. `accumulation` belongs to
    the layers."""
    plans = described.plans
    index, spread = described.layers.spread.index, described.stages.spread.index
    layout = described.stages.layout
    rows = 1 if total else len(CATEGORIES)

    def gathered(parts: Array) -> Array:
        return (summed(parts)[None] if total else parts)[:, index]

    layers, dense = layout.layers[:, spread], layout.dense[:, spread]
    full = full_share(plans, layers)
    selective = (plans.recompute == SELECTIVE) * (1 - full)
    forward, backward = (np.zeros((rows, *layers.shape)) for _ in range(2))
    weight = np.zeros(layers.shape)
    hidden = np.zeros((2, 0 if total else rows, *layers.shape))
    held = {
        "dense": dense,
        "moe": layers - dense,
        "embedding": layout.embedding[:, spread],
        "head": layout.head[:, spread],
    }
    for name in filter(times.__contains__, blocks):
        time = times[name]
        ahead, back = gathered(time.forward)[:, None, :], gathered(time.backward)[:, None, :]
        forward += held[name] * ahead
        backward += held[name] * back
        if split:
            weight += held[name] * time.weight[index]
        if not total:
            hidden += held[name] * time.hidden[:, :, None, index]
        if name in LAYERS:
            if not total:
                hidden[1] += held[name] * full * time.hidden[0][:, None, index]
            backward += held[name] * (full * ahead + selective * gathered(time.selective)[:, None, :])
    if BLOCKS[0] in blocks:
        backward[0 if total else ELEMENTWISE] += accumulation[:, spread]
        if described.job.stack.rebuild_wait.value:
            backward[0 if total else LAUNCH] += (full > 0) * rebuild_wait(described)
        weight = weight + accumulation[:, spread]
    return Passes(forward, backward, weight, hidden)


def rebuild_wait(described: Program) -> Array:
    """Seconds in which tensor ranks wait for the last of them before they rebuild a microbatch, shape (plans,)."""
    return np.asarray(described.job.stack.rebuild_wait.value * last_of(described.plans.tp.astype(float)))


def hops(described: Program, on: Machine) -> Hops:
    """Messages between stages, inside scale-up domains and between them."""
    plans = described.plans
    inside, between = hop_seconds(on, described)
    leaves, through = crossings(plans, on.network.domain)
    path = through * between + (plans.pp - 1 - through) * inside
    times = 2 if described.job.stack.exchanged_in_turn.value else 1
    back = np.where(leaves.any(axis=0), between, inside)
    apart = neighbours_apart(plans, leaves, on.network.domain)
    return Hops(inside + apart * (between - inside), times * exchanges(plans), path, back)


def passes(job: Job, plans: PlanTable, on: Machine) -> tuple[Passes, Hops]:
    """What one microbatch takes on every representative stage in all, and what its messages between stages take."""
    described, times = priced(job, plans, on)
    accumulation = sync_time(job, on, described.stages).accumulation
    found = stage_passes(described, times, accumulation, total=True, split=True)
    return replace(found, forward=found.forward[0], backward=found.backward[0]), hops(described, on)
