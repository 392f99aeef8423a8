"""Pipeline parallelism: which layers a stage holds, what it keeps in flight, what it sends.

GPipe (arXiv 1811.06965), 1F1B (arXiv 1806.03377), interleaved 1F1B (arXiv 2104.04473 section 2.2). The zero-bubble
schedules (arXiv 2401.10241) run a microbatch's weight gradients later than its backward pass: ZB-1p and ZB-2p are
searched under a limit of the activations of p and 2p microbatches; ZB-V has two chunks a stage, placed in a V: down
the stages and up again, under the limit of p.
Stages are described by four representatives, the leading axis of every array here: the first stage (embedding),
inner stages that got one of the layers that did not divide, the other inner stages, the last stage (head and loss).
With one stage only the first exists and holds both ends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import SCHEDULES, PlanTable
from simtrain.workload.rule import Rule

GPIPE, ONE_F_ONE_B, INTERLEAVED, ZB_1P, ZB_2P, ZB_V = range(len(SCHEDULES))
V_CHUNKS = 2
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

    The first stage of a folded pipeline holds both ends: there it has two layers fewer than the rest.
    """
    stages, layers, folded = plans.pp, job.model.layers, plans.folded == 1
    less = np.where(folded & (layers % stages > 0), 2, 0)
    base, extra = (layers + less) // stages, (layers + less) % stages
    inner = np.maximum(stages - 2, 0)
    fuller = np.minimum(extra, inner)
    zero, single = np.zeros(len(plans)), stages == 1
    count = np.stack([zero + 1, fuller, inner - fuller, 1.0 * ~single])
    held = np.stack([base - less + (extra > fuller), base + 1.0, base, base]) * (count > 0)
    return Layout(
        count=count,
        layers=held,
        dense=_dense(job, count, held),
        embedding=np.stack([zero + 1, zero, zero, zero]),
        head=np.stack([1.0 * (single | folded), zero, zero, 1.0 * ~(single | folded)]),
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


def splits(plans: PlanTable) -> NDArray[np.bool_]:
    """Which plans run weight gradients apart from the backward pass: their schedules come last."""
    return np.asarray(plans.schedule >= ZB_1P)


def in_flight(plans: PlanTable, position: Stages) -> Stages:
    """Microbatches alive at its peak on the stage at `position`, as a multiple of the stage's layers.

    GPipe: all m. 1F1B: p - s. Interleaved: chunks in flight over chunks a stage, ((v - 1)p + 2(p - s - 1) + 1)/v,
    which is p + (p - 1)/v on the first stage (arXiv 2205.05198 section 4.2.3). Zero-bubble schedules: the limit of
    their search on every stage, as later ones keep weight gradients waiting instead. Never more than m.
    """
    pp, vpp, m = plans.pp, plans.vpp, plans.microbatches
    ahead = pp - position
    interleaved = np.where(vpp > 1, ((vpp - 1) * pp + 2 * (ahead - 1) + 1) / vpp, ahead)
    alive = np.where(plans.schedule == GPIPE, m, np.where(plans.schedule == INTERLEAVED, interleaved, ahead))
    return np.minimum(np.where(splits(plans), activation_limit(plans), alive), m)


def activation_limit(plans: PlanTable) -> NDArray[np.int64]:
    """Microbatches whose activations a zero-bubble schedule may hold: 2p in ZB-2p, p in ZB-1p and ZB-V
    (arXiv 2401.10241 section 5.1), shape (plans,)."""
    return np.where(plans.schedule == ZB_2P, 2, 1) * plans.pp


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
        "more than one chunk a stage needs it or zb-v, and it needs more than one",
        lambda job, plans: (plans.vpp > 1) == np.isin(plans.schedule, (INTERLEAVED, ZB_V)),
    ),
    Rule(
        "a V has two chunks a stage",
        "one on the way down and one on the way up",
        lambda job, plans: (plans.schedule != ZB_V) | (plans.vpp == V_CHUNKS),
    ),
    Rule(
        "the stack has this schedule",
        "this training stack does not offer it",
        lambda job, plans: np.isin(plans.schedule, [SCHEDULES.index(name) for name in job.stack.schedules]),
    ),
    Rule(
        "interleaving needs a pipeline",
        "with one stage there is nothing to interleave",
        lambda job, plans: (plans.vpp == 1) | (plans.pp > 1),
    ),
    Rule(
        "interleaving needs whole rounds of microbatches",
        "microbatches must be a multiple of the stages",
        lambda job, plans: (plans.schedule != INTERLEAVED) | (plans.microbatches % plans.pp == 0),
    ),
    Rule(
        "schedules differ from 1F1B only in a pipeline",
        "with one stage they are the same plan",
        lambda job, plans: (plans.schedule == ONE_F_ONE_B) | (plans.pp > 1),
    ),
)
