"""Pipeline parallelism: which layers a stage holds, what it keeps in flight, what it sends.

GPipe (arXiv 1811.06965), 1F1B (arXiv 1806.03377), interleaved 1F1B (arXiv 2104.04473 section 2.2).
Stages are described by four representatives, the leading axis of every array here: the first stage (embedding),
inner stages that got one of the layers that did not divide, the other inner stages, the last stage (head and loss).
With one stage only the first exists and holds both ends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import SCHEDULES, PlanTable
from simtrain.workload.parameters import parameters
from simtrain.workload.partition import filled
from simtrain.workload.rule import Rule

GPIPE, ONE_F_ONE_B, INTERLEAVED = (SCHEDULES.index(name) for name in ("gpipe", "1f1b", "interleaved"))
Stages = NDArray[np.float64]
REPRESENTATIVES = ("first", "fuller inner", "inner", "last")
FIRST, FULLER, INNER, LAST = range(len(REPRESENTATIVES))


@dataclass(frozen=True)
class Layout:
    """Arrays of shape (representatives, plans)."""

    count: Stages
    """Stages each representative stands for."""
    layers: Stages
    """Layers on it, of any kind."""
    dense: Stages
    """Of these, layers with a dense feed-forward."""
    embedding: Stages
    """1 where the stage holds the embedding."""
    head: Stages
    """1 where the stage holds head and loss."""
    position: Stages
    """Place in the pipeline of the representative: 0 is the first stage, 1 the first inner one."""


def layout(job: Job, plans: PlanTable) -> Layout:
    """Divide the layers over the stages: what does not divide goes to the earliest inner stages, then to the first.

    Where the stack fills stages by weights, they are as `partition.filled` has them.
    """
    stages, layers = plans.pp, job.model.layers
    base, extra = layers // stages, layers % stages
    inner = np.maximum(stages - 2, 0)
    fuller = np.minimum(extra, inner)
    zero, single = np.zeros(len(plans)), stages == 1
    count = np.stack([zero + 1, fuller, inner - fuller, 1.0 * ~single])
    held = np.stack([base + (extra > fuller), base + 1.0, base, base]) * (count > 0)
    if job.stack.filled_stages is not None and job.stack.filled_stages.value:
        count, held = filled(parameters(job.model), layers, stages)
        fuller = count[FULLER]
    return Layout(
        count=count,
        layers=held,
        dense=_dense(job, count, held),
        embedding=np.stack([zero + 1, zero, zero, zero]),
        head=np.stack([1.0 * single, zero, zero, 1.0 * ~single]),
        position=np.stack([zero, np.minimum(1, stages - 1.0), np.minimum(1.0 + fuller, stages - 1), stages - 1.0]),
    )


def _dense(job: Job, count: Stages, held: Stages) -> Stages:
    """Layers with a dense feed-forward: the leading ones fill the first stage, what is left spreads behind it."""
    experts = job.model.experts
    if experts is None:
        return held
    leading = experts.first_dense_layers
    behind = (count * held).sum(axis=0) - held[FIRST]
    left = np.maximum(leading - held[FIRST], 0) / np.maximum(behind, 1)
    first = np.minimum(leading, held[FIRST])
    spread = np.concatenate([first[None], held[FULLER:] * left])
    rest = (job.model.layers - leading - job.model.moe_layers) / max(job.model.layers - leading, 1)
    return np.asarray(spread + (held - spread) * rest)


def in_flight(plans: PlanTable, position: Stages) -> Stages:
    """Microbatches alive at its peak on the stage at `position`, as a multiple of the stage's layers.

    GPipe: all m. 1F1B: p - s. Interleaved: chunks in flight over chunks a stage, ((v - 1)p + 2(p - s - 1) + 1)/v,
    which is p + (p - 1)/v on the first stage (arXiv 2205.05198 section 4.2.3). Never more than m.
    """
    pp, vpp, m = plans.pp, plans.vpp, plans.microbatches
    ahead = pp - position
    interleaved = np.where(vpp > 1, ((vpp - 1) * pp + 2 * (ahead - 1) + 1) / vpp, ahead)
    alive = np.where(plans.schedule == GPIPE, m, np.where(plans.schedule == INTERLEAVED, interleaved, ahead))
    return np.minimum(alive, m)


def crossings(plans: PlanTable, domain: int) -> tuple[Stages, NDArray[np.float64]]:
    """Where hops leave a scale-up domain of `domain` ranks.

    Returns a mask a representative (1: its slower hop does) and the number of such hops on the way through.
    """
    ranks = plans.tp * plans.cp * plans.dp
    total = ranks * plans.pp
    leaves = (plans.pp > 1) & (total > domain)
    each = ranks >= domain
    inner = 1.0 * leaves
    first = 1.0 * (leaves & each)
    last = 1.0 * (leaves & ((total - ranks) % domain == 0))
    through = np.where(each, plans.pp - 1, -(-total // domain) - 1) * leaves
    return np.stack([first, inner, inner, last]), through.astype(float)


def exchanges(plans: PlanTable) -> Stages:
    """Exchanges with neighbours a microbatch: two a chunk, but one fewer at either end of the pipeline."""
    inner = np.where(plans.pp > 1, 2.0 * plans.vpp, 0.0)
    end = np.maximum(inner - 1, 0.0)
    return np.stack([end, inner, inner, end])


RULES = (
    Rule(
        "every stage holds a layer",
        "more stages or chunks than layers",
        lambda job, plans: plans.pp * plans.vpp <= job.model.layers,
    ),
    Rule(
        "chunks are equal",
        "interleaving needs stages x chunks to divide the layers",
        lambda job, plans: (plans.vpp == 1) | (job.model.layers % (plans.pp * plans.vpp) == 0),
    ),
    Rule(
        "chunks belong to the interleaved schedule",
        "more than one chunk a stage needs it, and it needs more than one",
        lambda job, plans: (plans.vpp > 1) == (plans.schedule == INTERLEAVED),
    ),
    Rule(
        "interleaving needs a pipeline",
        "with one stage there is nothing to interleave",
        lambda job, plans: (plans.vpp == 1) | (plans.pp > 1),
    ),
    Rule(
        "interleaving needs whole rounds of microbatches",
        "microbatches must be a multiple of the stages",
        lambda job, plans: (plans.vpp == 1) | (plans.microbatches % plans.pp == 0),
    ),
    Rule(
        "GPipe differs from 1F1B only in a pipeline",
        "with one stage the two are the same plan",
        lambda job, plans: (plans.schedule != GPIPE) | (plans.pp > 1),
    ),
)
