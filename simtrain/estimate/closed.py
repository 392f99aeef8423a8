"""Time, memory and their make-up of many plans, in closed form."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.passes import hops, launches, priced, stage_passes
from simtrain.price.blocks import BlockTime, Machine
from simtrain.price.categories import CATEGORIES, LAUNCH, summed
from simtrain.price.step import sync_time
from simtrain.price.uncertainty import relative_width
from simtrain.spec.calibration import left_out
from simtrain.spec.frozen import PARTS
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.closed_form import Apart, exposed_gather, exposed_reduction, gathered_behind, pipeline
from simtrain.timeline.costs import ALONE
from simtrain.timeline.memory import Memory, memory, waiting_share
from simtrain.workload.flops import model_flops
from simtrain.workload.op import Block
from simtrain.workload.program import Program
from simtrain.workload.strategies.pipeline import splits
from simtrain.workload.strategies.recompute import SELECTIVE, full_share
from simtrain.workload.strategies.sharding import gathers_back, kept_whole, reduced_every, reduced_late

Array = NDArray[np.float64]
HEADROOM: Final = 0.05
"""Share of a device's memory that ranked plans leave free: a judgement, as predicted peaks are off by more than that in
three of the five published sources with a memory figure (`simtrain score`)."""
TERMS: Final = (*CATEGORIES, *ALONE)
"""What a step's seconds are spent on, in the mean over stages; the bubble is all idling, uneven stages included."""


@dataclass(frozen=True)
class Estimate:
    """Predictions for every plan of a table; arrays of shape (plans,) unless said."""

    job: Job
    plans: PlanTable
    step_time: Array
    """Seconds."""
    memory: Memory
    capacity: float
    """Bytes of one device."""
    host_capacity: float
    """Bytes of host memory for each device."""
    drives_capacity: float
    """Bytes of drives for each device; 0 where none are stated."""
    treated: tuple[MemoryPlan | None, ...] = ()
    """A memory plan for each plan, or nothing where no plan has one."""

    def take(self, rows: NDArray[np.int64]) -> "Estimate":
        """The same of some plans."""
        memory = self.memory.take(rows)
        kept = tuple(self.treated[row] for row in rows) if self.treated else ()
        return replace(self, plans=self.plans.take(rows), step_time=self.step_time[rows], memory=memory, treated=kept)

    def plan(self, row: int) -> Plan:
        """One of the plans, with its memory plan."""
        plan = self.plans.plan(row)
        return plan.model_copy(update={"memory": self.treated[row]}) if self.treated else plan

    @property
    def fits_beside(self) -> NDArray[np.bool_]:
        """Whether a device's shares of its host's memory and of the drives hold what the plan puts there."""
        return (self.memory.host <= self.host_capacity) & (self.memory.drives <= self.drives_capacity)

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the fullest device holds the plan, too."""
        return (self.memory.total <= self.capacity) & self.fits_beside

    @property
    def roomy(self) -> NDArray[np.bool_]:
        """Whether it does so with `HEADROOM` to spare."""
        return self.fits & (self.memory.total <= (1 - HEADROOM) * self.capacity)

    @property
    def tokens_per_second(self) -> Array:
        """Trained positions a second, whole job."""
        return self.plans.global_batch * self.job.sequence / self.step_time

    def mfu(self, causal: bool) -> Array:
        """Model FLOP/s utilisation of the matmul peak; `causal` counts attention under the mask, else in full."""
        peak = self.job.cluster.device.peak[self.job.precision.matmul].value
        frozen = {part: 1 - self.job.trained(part) for part in PARTS}
        flops = model_flops(self.job.model, self.job.sequence, causal, frozen) * self.plans.global_batch
        return np.asarray(flops / (self.step_time * self.job.devices * peak))


@dataclass(frozen=True)
class Detail:
    """Where the time goes, for the few plans worth looking at."""

    terms: Array
    """Seconds by TERMS, shape (terms, plans)."""
    measured: Array
    """Share of the busy time that rests on measured kernels or collectives."""
    low: Array
    high: Array
    """Step time interval, seconds."""
    hardware_flops: Array
    """FLOP of one step, recomputation included."""

    def take(self, rows: NDArray[np.int64]) -> "Detail":
        """The same of some plans."""
        return Detail(**{name: part[..., rows] for name, part in vars(self).items()})


def estimate(job: Job, plans: PlanTable, on: Machine) -> Estimate:
    """Step time and memory of every plan."""
    return _estimate(*priced(job, plans, on), on)


def detailed(job: Job, plans: PlanTable, on: Machine) -> tuple[Estimate, Detail]:
    """The same of a few plans, with make-up, evidence and interval of their step time."""
    described, times = priced(job, plans, on)
    return _estimate(described, times, on), _detail(described, times, on)


def _estimate(described: Program, times: dict[str, BlockTime], on: Machine) -> Estimate:
    job, terms = described.job, _step(described, times, on, total=True)
    host, each = job.cluster.node.host, job.node_devices
    held = memory(described, launches(described, times))
    drives = 0.0 if host.nvme is None else host.nvme.value / each
    capacity = job.cluster.device.memory.value
    return Estimate(job, described.plans, summed(terms), held, capacity, host.memory.value / each, drives)


def _detail(described: Program, times: dict[str, BlockTime], on: Machine) -> Detail:
    job, terms = described.job, _step(described, times, on, total=False)
    share = _measured_share(described, times)
    step_time = summed(terms)
    device = job.cluster.device
    seen = left_out(job.stack.name, device.name, device.profile)
    relative = relative_width(share, on.profile.evidence, seen) if job.own is None else job.own.p90
    width = 1 + relative
    return Detail(terms, share, step_time / width, step_time * width, _hardware_flops(described))


def _step(described: Program, times: dict[str, BlockTime], on: Machine, total: bool) -> Array:
    """Seconds by term; with `total` the categories of the busy time are summed into the first row."""
    job, plans = described.job, described.plans
    spread = described.stages.spread.index
    layout, stack = described.stages.layout, job.stack
    sync = sync_time(job, on, described.stages)
    split = bool(splits(plans).any())
    stage = stage_passes(described, times, sync.accumulation, total, split)
    forward, backward = stage.forward, stage.backward
    forward[0 if total else LAUNCH] += stack.microbatch_overhead.value
    gap = stack.microbatch_gap.value
    stage_forward, stage_backward = summed(forward), summed(backward)
    messages = hops(described, on)
    apart = Apart(stage.weight, waiting_share(described), not stack.post_validation) if split else None
    hidden = stack.overlap.pipeline.value
    run = pipeline(plans, layout.count[:, spread], stage_forward, stage_backward, messages, hidden, apart, gap)
    gathers, gathering = sync.gather[:, spread], stack.hidden("parameter_gathering")
    whole, again = kept_whole(job, plans), gathers * gathers_back(job, full_share(plans, layout.layers[:, spread]))
    reduction = exposed_reduction(
        plans,
        layout.position[:, spread],
        sync.reduction[:, spread],
        stage_backward,
        np.where(reduced_late(job, plans), 0.0, stack.hidden("gradient_reduction")),
        taken=np.where(whole, 0.0, gathered_behind(plans, again, stage_backward, gathering)),
        every=reduced_every(job, plans),
    )
    gather = exposed_gather(plans, gathers, again, stage_forward, stage_backward, gathering, whole)
    count = layout.count[:, spread]
    gaps = gap * count.sum(axis=0) / plans.pp
    mean = (count * (forward + backward)).sum(axis=1) / plans.pp
    mean[0 if total else LAUNCH] += gaps
    whole_mean = (count * (stage_forward + stage_backward)).sum(axis=0) / plans.pp + gaps
    idle = np.maximum(run.busy + run.bubble - plans.microbatches * whole_mean, 0.0)
    update = sync.update.max(axis=0)[spread]
    overhead = np.full(len(plans), stack.step_overhead.value)
    reduction = reduction + sync.tied[spread]
    once = np.stack([idle, run.hops, reduction, gather, np.zeros_like(idle), update, overhead])
    terms = np.concatenate([plans.microbatches * mean, once])
    return terms if job.own is None else terms * job.own.factor.value


def _measured_share(described: Program, times: dict[str, BlockTime]) -> Array:
    """Share of the layers' seconds that rest on measured rows, each kind of layer as often as the model has it."""
    moe = described.job.model.moe_layers
    layers = {"dense": described.job.model.layers - moe, "moe": moe}
    held = [(count, times[name]) for name, count in layers.items() if count]
    measured = sum(count * time.measured for count, time in held)
    share = measured / sum(count * time.priced for count, time in held)
    return np.asarray(share)[described.layers.spread.index]


def _hardware_flops(described: Program) -> Array:
    """FLOP the devices execute in a step: model, rebuilt layers and rebuilt core attention."""
    job, plans = described.job, described.plans
    layers, dense = described.stages.layout.layers, described.stages.layout.dense
    count, spread = described.stages.layout.count, described.stages.spread.index
    totals = {"dense": (count * dense).sum(axis=0)[spread], "moe": (count * (layers - dense)).sum(axis=0)[spread]}
    full = full_share(plans, job.model.layers / plans.pp)
    chosen = plans.recompute == SELECTIVE
    flops = np.zeros(len(plans))
    for block in described.layers.blocks:
        ahead, back, core = (part[described.layers.spread.index] for part in _block_flops(block, job))
        again = full * ahead + (1 - full) * chosen * core if block.name in totals else 0.0
        flops += totals.get(block.name, 1.0) * (ahead + back + again)
    return flops * plans.microbatches * plans.tp * plans.cp * plans.dp


def _block_flops(block: Block, job: Job) -> tuple[Array, Array, Array]:
    """Forward, backward and selectively rebuilt FLOP of one rank's block, shape (rows,)."""
    zero = np.zeros(np.shape(block.input_size))
    sums = {"forward": zero.copy(), "backward": zero.copy(), "again": zero.copy()}
    for op in block.ops:
        flops = getattr(op.work, "flops", 0.0) * op.weight
        sums[op.phase] += flops
        if op.phase == "forward":
            sums["again"] += flops * job.stack.rebuilt(op.role)
    return sums["forward"], sums["backward"], sums["again"]
