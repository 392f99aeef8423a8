"""One plan's step replayed: its schedule drawn up, its costs laid over the stages, run event by event."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.choices import choices
from simtrain.estimate.closed import TERMS, Detail, Estimate, detailed
from simtrain.estimate.course import PLANNED, Course
from simtrain.estimate.laid import Laid
from simtrain.estimate.passes import launches, priced, stage_passes
from simtrain.estimate.treated import Treated, treated
from simtrain.price.blocks import Machine
from simtrain.price.categories import CATEGORIES, LAUNCH
from simtrain.price.launched import LAYERS
from simtrain.price.step import hop_seconds, sync_time
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.schedule import SCHEDULES
from simtrain.timeline.footprint import Footprint, Held, footprint
from simtrain.timeline.memory import CLASSES, holdings, waiting_share
from simtrain.timeline.order import Order, first_of
from simtrain.timeline.schedules.drawn import drawn
from simtrain.timeline.steady import steady
from simtrain.timeline.step import Step, step
from simtrain.workload.strategies.pipeline import NO_FLUSH

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Replayed:
    """A plan's step, and the memory it takes over time."""

    step: Step
    footprint: Footprint
    held: Held
    """What the footprint was made of."""
    stages: NDArray[np.int64]
    """The representative of every stage (workload.strategies.pipeline)."""
    away: tuple[float, float] = (0.0, 0.0)
    """Most bytes of activations a device has in host memory at once, and on drives."""
    again: float = 0.0
    """FLOP a microbatch makes again under a memory plan, on one rank of every stage."""
    categories: tuple[str, ...] = CATEGORIES
    """Of the seconds of passes."""


def replayed(job: Job, plan: Plan, on: Machine, course: Course = PLANNED) -> Replayed:
    """Replay one plan.

    Raises WrongInput where an order never ends, or the course is of other stages, replicas, chunks or microbatches.
    """
    return next(replays(job, PlanTable.of([plan]), on, course, [plan.memory]))


def replays(
    job: Job,
    plans: PlanTable,
    on: Machine,
    course: Course = PLANNED,
    memory: Sequence[MemoryPlan | None] = (),
) -> Iterator[Replayed]:
    """Replay plans one by one; they are priced together. `memory`: a memory plan for each, or none at all."""
    described, times = priced(job, plans, on)
    sync = sync_time(job, on, described.stages)
    blocks = tuple(
        stage_passes(described, times, sync.accumulation, total=False, split=True, blocks=names)
        for names in (LAYERS, ("embedding",), ("head",))
    )
    blocks[0].forward[LAUNCH] += job.stack.microbatch_overhead.value
    messages = hop_seconds(on, described)
    waiting, holds = waiting_share(described), holdings(described, launches(described, times))
    for row in range(len(plans)):
        laid = Laid(job, described, on, row, course.order)
        microbatches = int(plans.microbatches[row])
        treatment = memory[row] if memory else None
        how = None
        if treatment is not None:
            how = treated(choices(described, times, on, row, laid.stages, treatment, sync.moved), treatment)
        costs = laid.costs(blocks, sync, messages, how)
        held = laid.held(holds, float(waiting[row]), how)
        stages, chunks = laid.place.shape
        if course.order is None and plans.schedule[row] == NO_FLUSH:
            slow = course.undrained(plans.plan(row), stages)
            found = steady(stages, microbatches, costs, None if slow is None else slow.factor)
        else:
            waits = float(waiting[row])
            if how is not None and held.activations.any():
                waits = float(held.waiting.sum() / held.activations.sum())
            pace = laid.pace(costs, waits)
            whole = drawn(SCHEDULES[plans.schedule[row]], int(plans.pp[row]), chunks, microbatches, pace)
            run = course.order or first_of(whole, stages)
            slow, given = course.over(plans.plan(row), run)
            found = step(run, costs, None if slow is None else slow.factor, given)
        used = footprint(found.order, held)
        gone = 0.0 if how is None else _away(found.order, how)
        away = (gone, 0.0) if treatment is None or treatment.tier == "cpu" else (0.0, gone)
        yield Replayed(replace(found, slowdown=slow), used, held, laid.stages, away, 0.0 if how is None else how.flops)


def _away(order: Order, how: Treated) -> float:
    """Most bytes of activations off a device at once, while their microbatches are in flight."""
    stages, chunks = order.place.shape
    none = np.zeros(stages)
    share = np.repeat(how.away[:, None] / chunks, chunks, axis=1)
    return float(footprint(order, Held(np.zeros((1, stages)), share, 0 * share, none, none)).activations.max())


def exact(
    job: Job,
    plans: PlanTable,
    on: Machine,
    course: Course = PLANNED,
    memory: Sequence[MemoryPlan | None] = (),
) -> tuple[Estimate, Detail]:
    """Estimate and make-up of a few plans, step time and peak of memory replayed; intervals keep their relative width.

    `course`: see replayed, `memory`: see replays.
    """
    closed, made = detailed(job, plans, on)
    seconds, stage = np.empty(len(plans)), np.empty(len(plans), dtype=np.int64)
    terms, classes = np.empty((len(TERMS), len(plans))), np.empty((len(CLASSES), len(plans)))
    away, again = np.zeros((2, len(plans))), np.zeros(len(plans))
    for row, one in enumerate(replays(job, plans, on, course, memory)):
        fullest, action = one.footprint.peak
        seconds[row], stage[row] = one.step.seconds, one.stages[fullest]
        terms[:, row] = one.step.mean_terms()
        classes[:, row] = one.footprint.classes(fullest, action)
        away[:, row], again[row] = one.away, one.again
    longer = seconds / closed.step_time
    interval = {"low": made.low * longer, "high": made.high * longer}
    host, drives = closed.memory.host + away[0], closed.memory.drives + away[1]
    peak = replace(closed.memory, classes=classes, stage=stage, host=host, drives=drives)
    flops = made.hardware_flops + again * plans.microbatches * plans.tp * plans.cp * plans.dp
    found = replace(closed, step_time=seconds, memory=peak, treated=tuple(memory))
    return found, replace(made, terms=terms, hardware_flops=flops, **interval)


def predicted(job: Job, plans: Sequence[Plan], on: Machine, course: Course = PLANNED) -> tuple[Estimate, Detail]:
    """The same of plans as they are written down, with their memory plans."""
    return exact(job, PlanTable.of(plans), on, course, [plan.memory for plan in plans])
