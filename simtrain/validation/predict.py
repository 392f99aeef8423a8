"""What the estimate says of a plan, or of one rank's share of it, in the terms that runs are measured in."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simtrain.estimate import TERMS, machine
from simtrain.estimate.passes import priced, stage_passes
from simtrain.estimate.replayed import replayed
from simtrain.price.categories import CATEGORIES
from simtrain.price.step import sync_time
from simtrain.price.stock_power import joules, stock_power
from simtrain.spec.base import Evidence
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.memory import CLASSES
from simtrain.workload.messages import Sent, sent
from simtrain.workload.program import Program

GROUPS: Final = ("matmul", "attention", "elementwise", "other compute", "optimizer", "communication", "bubble")
_GROUP_OF: Final = {
    "matmul": "matmul",
    "attention": "attention",
    "elementwise": "elementwise",
    "launch": "other compute",
    "optimizer": "optimizer",
    "step overhead": "other compute",
    "bubble": "bubble",
}
"""Of a term of the estimate; every other one is communication."""
DOES: Final = {
    "matmul": "matmul",
    "attention": "attention",
    "elementwise": "memory",
    "optimizer": "memory",
    "other compute": "launch",
    "communication": "idle",
    "bubble": "idle",
}
"""What a device does in a term (price.stock_power); exposed communication and bubbles are waiting."""


@dataclass(frozen=True)
class Prediction:
    """Of a job whose stack is the worker's."""

    step_time: float
    seconds: dict[str, float]
    """By GROUPS, mean over ranks."""
    memory: dict[str, float]
    """Bytes by class on the fullest stage."""
    messages: tuple[tuple[Sent, ...], ...]
    """Of every stage."""
    joules: float
    """Of all devices in a step, at stock clocks; without hosts."""
    joules_evidence: Evidence


def predict(job: Job, plan: Plan) -> Prediction:
    """What the estimate says of a plan, in the terms that are measured."""
    on, table = machine(job), PlanTable.of([plan])
    found = replayed(job, plan, on)
    terms = found.step.terms.mean(axis=1)
    seconds = dict.fromkeys(GROUPS, 0.0)
    for name, value in zip(TERMS, terms, strict=True):
        seconds[_GROUP_OF.get(name, "communication")] += float(value)
    fullest, action = found.footprint.peak
    memory = dict(zip(CLASSES, found.footprint.classes(fullest, action).tolist(), strict=True))
    program, _ = priced(job, table, on)
    messages = tuple(sent(program, 0, int(r)) for r in found.stages)
    return Prediction(found.step.seconds, seconds, memory, messages, *_joules(job, seconds, job.devices))


def _joules(job: Job, seconds: dict[str, float], devices: int) -> tuple[float, Evidence]:
    """Of devices that spend these seconds each, by GROUPS."""
    one, evidence = joules(seconds, stock_power(job.cluster.device), DOES)
    return devices * one, evidence


def predict_slice(job: Job, plan: Plan, stage: int) -> Prediction:
    """Of one rank of a stage alone: its compute and its update; its states as without other ranks to share them."""
    alone = plan.model_copy(update={"zero": 0, "shard_group": 1})
    on, table = machine(job), PlanTable.of([alone])
    program, times = priced(job, table, on)
    representative = int(replayed(job, plan, on).stages[stage])
    sync = sync_time(job, on, program.stages)
    found = stage_passes(program, times, sync.accumulation, total=False, split=False)
    microbatches = int(table.microbatches[0])
    seconds = dict.fromkeys(GROUPS, 0.0)
    for row, name in enumerate(CATEGORIES):
        group = _GROUP_OF.get(name, "communication")
        if group != "communication":
            busy = found.forward[row, representative, 0] + found.backward[row, representative, 0]
            seconds[group] += microbatches * float(busy)
    each = job.stack.microbatch_overhead.value + job.stack.microbatch_gap.value
    overheads = microbatches * each + job.stack.step_overhead.value
    seconds["other compute"] += overheads
    seconds["optimizer"] = float(sync.update[representative, 0])
    memory = _slice_memory(program, representative)
    return Prediction(sum(seconds.values()), seconds, memory, (), *_joules(job, seconds, 1))


def _slice_memory(program: Program, representative: int) -> dict[str, float]:
    """One microbatch in flight, as nothing waits for other stages."""
    from simtrain.timeline.memory import holdings

    held, row = holdings(program), (representative, 0)
    moving = (held.activations, held.logits, held.working, np.zeros_like(held.buffers))
    found = dict(zip(CLASSES, [float(part[row]) for part in (*held.states, *moving)], strict=False))
    stack = program.job.stack
    replicas = program.stages.states.dense.trained * stack.reduction_copy.value
    several = (program.plans.dp * program.plans.cp > 1)[0]
    found["gradients"] -= float(replicas[representative, 0]) * several
    lost = stack.fragmentation.value * sum(found[name] for name in ("activations", "logits", "working set"))
    return found | {"fragmentation": lost, "reserve": stack.reserve.value}
