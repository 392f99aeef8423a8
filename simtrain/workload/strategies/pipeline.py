"""Pipeline parallelism: which layers a stage holds, what it keeps in flight, what it sends.

The schedules themselves are drawn up in timeline/schedules; here is what layers, memory and messages need of them.
Stages are described by four representatives, the leading axis of every array here: the first stage (embedding),
inner stages that got one of the layers that did not divide, the other inner stages, the last stage (head and loss).
With one stage only the first exists and holds both ends.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec import load
from simtrain.spec.job import Job
from simtrain.spec.library import names
from simtrain.spec.plan import PlanTable
from simtrain.spec.schedule import CHUNK_STEP, FLOODS, LEAST_CHUNKS, MOST_CHUNKS, SCHEDULES, SPLIT, Schedule
from simtrain.workload.parameters import parameters
from simtrain.workload.rule import Rule

(GPIPE, ONE_F_ONE_B, INTERLEAVED, BREADTH_FIRST, HANAYO, NO_FLUSH, ZB_1P, ZB_2P, ZB_V, DUALPIPE_V) = range(
    len(SCHEDULES)
)
Stages = NDArray[np.float64]
REPRESENTATIVES = ("first", "fuller inner", "inner", "last")
FIRST, FULLER, INNER, LAST = range(len(REPRESENTATIVES))
ROUNDING: Final = 1e-9
"""Of a layer: costs that are equal."""


@dataclass(frozen=True)
class Layout:
    """Arrays of shape (representatives, plans)."""

    count: Stages
    """Stages each representative stands for."""
    layers: Stages
    """Layers on it, of any kind; those of modules that predict further among them."""
    dense: Stages
    """Of these, layers with a dense feed-forward."""
    embedding: Stages
    """1 where the stage holds the embedding."""
    head: Stages
    """1 where the stage holds head and loss."""
    position: Stages
    """Place in the pipeline of the representative: 0 is the first stage, 1 the first inner one."""


def layout(job: Job, plans: PlanTable) -> Layout:
    """Divide the layers over the stages as the stack does.

    Evenly, what does not divide goes to the earliest inner stages, then to the first; of a folded pipeline that holds
    both ends and has two layers fewer than the rest. By cost, see `_by_cost`; stages behind the head then hold nothing
    and are left out. With the ends, see `_with_ends`.
    """
    stages, layers, folded = plans.pp, job.model.layers, plans.folded == 1
    if job.stack.division.value == "by cost":
        first, last, behind = _by_cost(job, stages)
    elif job.stack.division.value == "with ends":
        first, last, behind = _with_ends(job, stages)
    else:
        first, last, behind = _evenly(job, stages, folded)
    if job.model.prediction_modules:
        first, last = _with_modules(job, plans, first, last)
    inner = np.maximum(behind - 1, 0)
    base, fuller = np.divmod(layers - first - last, np.maximum(inner, 1))
    several, ends = behind > 0, (behind > 0) & ~folded
    zero = np.zeros(len(plans))
    count = np.stack([zero + 1, fuller, inner - fuller, 1.0 * several])
    held = np.stack([first, base + 1.0, base, last]) * (count > 0)
    held += job.model.prediction_modules * np.stack([1.0 * ~ends, zero, zero, 1.0 * ends])
    return Layout(
        count=count,
        layers=held,
        dense=_dense(job, count, held),
        embedding=np.stack([zero + 1, zero, zero, zero]),
        head=np.stack([1.0 * ~ends, zero, zero, 1.0 * ends]),
        position=np.stack([zero, np.minimum(1, behind), np.minimum(1.0 + fuller, behind), 1.0 * behind]),
    )


Counts = NDArray[np.int64]


def _evenly(job: Job, stages: Counts, folded: NDArray[np.bool_]) -> tuple[Counts, Counts, Counts]:
    """Layers of the first stage and of the last, and that one's place."""
    less = np.where(folded & (job.model.layers % stages > 0), 2, 0)
    base, extra = np.divmod(job.model.layers + less, stages)
    return base - less + (extra > stages - 2) * (extra > 0), np.where(stages > 1, base, 0), stages - 1


def _with_ends(job: Job, stages: Counts) -> tuple[Counts, Counts, Counts]:
    """The same where embedding, final norm and head count as layers, and what does not divide goes to the earliest
    stages (Aleph-Alpha/scaling pipeline_partitioning.py, pipe_partition_uniform, and transformer/model/model.py)."""
    base, extra = np.divmod(job.model.layers + 3, stages)
    first = np.where(stages > 1, base + (extra > 0) - 1, job.model.layers)
    return first, np.where(stages > 1, np.maximum(base - 2, 0), 0), stages - 1


def _with_modules(job: Job, plans: PlanTable, first: Counts, last: Counts) -> tuple[Counts, Counts]:
    """Layers of the first stage and of the last where modules that predict further follow on the last one.

    The chunks of the other stages are full and the last stage has what is left, as in Megatron's layouts of DeepSeek-V3
    (NVIDIA-NeMo/Megatron-Bridge src/megatron/bridge/recipes/deepseek/deepseek_v3.py, layout_map); with so many stages
    that nothing would be left, layers stay as they were divided.
    """
    full = -(-job.model.layers // (plans.pp * plans.vpp)) * plans.vpp
    left = job.model.layers - full * (plans.pp - 1)
    chosen = (plans.pp > 1) & (left > 0)
    return np.where(chosen, full, first), np.where(chosen, left, last)


def _by_cost(job: Job, stages: Counts) -> tuple[Counts, Counts, Counts]:
    """The same where a stage is closed by the layer that brings the cost so far to the stages' share of the whole.

    Cost is weights: of a layer, in the mean, and of the head at the end (huggingface/nanotron
    src/nanotron/models/base.py build_model). The head has a stage to itself where, beside the last layers, it would
    bring a stage other than the last above its share.
    """
    model, counts = job.model, parameters(job.model)
    experts = model.experts.count if model.experts else 0
    mixture = counts.router + counts.shared_expert + experts * counts.expert
    mlp = (model.layers - model.moe_layers) * counts.dense_mlp + model.moe_layers * mixture
    layers = model.layers * counts.attention + mlp
    whole = layers + model.vocabulary * model.hidden

    def closed(count: Counts) -> Counts:
        shares = np.ceil(count * whole * model.layers / (stages * layers) - ROUNDING)
        return np.asarray(np.minimum(shares, model.layers), dtype=np.int64)

    behind = np.asarray(stages * layers / whole + ROUNDING, dtype=np.int64)
    left = model.layers - closed(behind)
    alone = (left > 0) & (behind > 0) & (behind < stages - 1)
    return closed(np.ones_like(stages)), np.where((behind > 0) & ~alone, left, 0), behind + alone


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
    """Which plans run weight gradients apart from the backward pass."""
    return SPLIT[plans.schedule]


def in_flight(plans: PlanTable, position: Stages, waiting: Stages | float = 0.0) -> Stages:
    """Microbatches alive at its peak on the stage at `position`, as a multiple of the stage's layers.

    GPipe and breadth-first: all m. 1F1B, flushed or not: p - s. Interleaved: chunks in flight over chunks a stage,
    ((v - 1)p + 2(p - s - 1) + 1)/v, which is p + (p - 1)/v on the first stage (arXiv 2205.05198 section 4.2.3). Waves
    and zero-bubble schedules: the limit of their search on every stage, as later ones keep weight gradients waiting
    instead. DualPipeV: 2p + 1 halves (deepseek-ai/DualPipe README). Never more than m.

    `waiting`: what weight gradients wait with, over what their backward pass does. Where it is more, as after
    recomputation, the last one comes on top of the limit, and p halves of them wait at once in DualPipeV (replayed).
    """
    pp, vpp, m = plans.pp, plans.vpp, plans.microbatches
    ahead = pp - position
    interleaved = ((vpp - 1) * pp + 2 * (ahead - 1) + 1) / vpp
    alive = np.where(FLOODS[plans.schedule], m, np.where(plans.schedule == INTERLEAVED, interleaved, ahead))
    searched = splits(plans) | (plans.schedule == HANAYO)
    most = m * np.where(splits(plans), np.maximum(waiting, 1.0), 1.0)
    alive = np.minimum(np.where(searched, activation_limit(plans), alive), most)
    more = np.maximum(waiting - 1, 0.0) * splits(plans) / vpp
    deep = np.maximum(alive + np.minimum(more, 1), np.minimum(pp, most) + more)
    alive = np.where(plans.schedule == ZB_2P, deep, alive + more * (plans.schedule != DUALPIPE_V))
    return np.asarray(np.where(plans.schedule == DUALPIPE_V, np.maximum(alive, pp * waiting / 2), alive))


def activation_limit(plans: PlanTable) -> NDArray[np.float64]:
    """Microbatches whose activations waves and zero-bubble schedules may hold: 2p in ZB-2p, p in the others
    (arXiv 2401.10241 section 5.1), shape (plans,)."""
    microbatches = np.where(plans.schedule == ZB_2P, 2, 1) * plans.pp
    return np.asarray(microbatches + np.where(plans.schedule == DUALPIPE_V, 0.5, 0.0))


def hop_leaves(ranks: Counts | int, stage: Counts | int, domain: int) -> NDArray[np.bool_]:
    """Whether any of the messages from a stage of `ranks` ranks to their like in the next leaves a scale-up domain."""
    first = np.asarray(ranks * stage)
    return np.asarray((first + 2 * ranks - 1) // domain > first // domain)


def crossings(plans: PlanTable, domain: int) -> tuple[Stages, NDArray[np.float64]]:
    """Where hops leave a scale-up domain of `domain` ranks.

    Returns a mask a representative (1: its slower hop does) and the number of such hops on the way through.
    """
    ranks = plans.tp * plans.cp * plans.dp
    total = ranks * plans.pp
    leaves = (plans.pp > 1) & (total > domain)
    each = ranks >= domain
    inner = 1.0 * leaves
    first, last = (1.0 * (leaves & hop_leaves(ranks, stage, domain)) for stage in (0, plans.pp - 2))
    through = np.where(each, plans.pp - 1, -(-total // domain) - 1) * leaves
    return np.stack([first, inner, inner, last]), through.astype(float)


def neighbours_apart(plans: PlanTable, leaves: Stages, domain: int) -> Stages:
    """Share of a representative's exchanges that leave a scale-up domain of `domain` ranks, where its slower hop
    `leaves`.

    Of the inner stages it is those at the edge of a domain: the neighbour on their other side stands in their own,
    unless domains hold less than two stages or cut one. The first and the last exchange their further chunks with each
    other, if those are not folded.
    """
    ranks = plans.tp * plans.cp * plans.dp
    inner = np.where((2 * ranks > domain) | (domain % ranks > 0), 1.0, 0.5)
    around = np.where(plans.folded, 0.0, (plans.vpp - 1) / (2 * plans.vpp - 1))
    first, _, _, last = (1 - around) * leaves + around * leaves.any(axis=0)
    return np.stack([first, inner * leaves[1], inner * leaves[2], last])


def exchanges(plans: PlanTable) -> Stages:
    """Exchanges with neighbours a microbatch: two a chunk, but one fewer at either end of the pipeline."""
    inner = np.where(plans.pp > 1, 2.0 * plans.vpp, 0.0)
    end = np.maximum(inner - 1, 0.0)
    return np.stack([end, inner, inner, end])


def stage_layers(job: Job, plans: PlanTable) -> list[int]:
    """Layers of every stage of the first of `plans`; embedding, head and further predictions not counted."""
    found = layout(job, plans)
    held = found.layers - job.model.prediction_modules * found.head
    return [int(layers) for layers in np.repeat(held[:, 0], found.count[:, 0].astype(np.int64))]


def _stacks_with(schedule: Schedule) -> str:
    """The stacks that have a schedule, as an option."""
    having = [name for name in names(load.STACKS) if schedule in load.stack(name).schedules]
    return f"--stack {', '.join(having)}" if having else ""


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
        "chunks belong to schedules that interleave or fold them",
        "schedules with chunks need more than one a stage, the others one",
        lambda job, plans: (plans.vpp > 1) == (LEAST_CHUNKS[plans.schedule] > 1),
    ),
    Rule(
        "a V has two chunks a stage, a wave two more",
        "one on the way down and one on the way up",
        lambda job, plans: (plans.vpp <= MOST_CHUNKS[plans.schedule]) & (plans.vpp % CHUNK_STEP[plans.schedule] == 0),
    ),
    Rule(
        "the stack has this schedule",
        "this training stack does not offer it",
        lambda job, plans: np.isin(plans.schedule, [SCHEDULES.index(name) for name in job.stack.schedules]),
        beside=lambda plans: _stacks_with(SCHEDULES[plans.schedule[0]]),
    ),
    Rule(
        "interleaving needs a pipeline",
        "with one stage there is nothing to interleave",
        lambda job, plans: (plans.vpp == 1) | (plans.pp > 1),
    ),
    Rule(
        "interleaving needs whole rounds of microbatches",
        "microbatches must be a multiple of the stages",
        lambda job, plans: ~np.isin(plans.schedule, (INTERLEAVED, HANAYO)) | (plans.microbatches % plans.pp == 0),
    ),
    Rule(
        "both ways of a V are full",
        "zb-v needs one and a half microbatches a stage, dualpipe-v two",
        lambda job, plans: (
            ((plans.schedule != DUALPIPE_V) | (plans.microbatches >= 2 * plans.pp))
            & ((plans.schedule != ZB_V) | (2 * plans.microbatches >= 3 * plans.pp))
        ),
    ),
    Rule(
        "schedules differ from 1F1B only in a pipeline",
        "with one stage they are the same plan",
        lambda job, plans: (plans.schedule == ONE_F_ONE_B) | (plans.pp > 1),
    ),
)
