"""The state table: who holds weights, gradients and optimizer states, and the messages that keep them true.

ZeRO stages 0-3 (arXiv 1910.02054), FSDP (arXiv 2304.11277; stage 3) and HSDP (a shard group smaller than the
data-parallel group) are rows of it. Stage arrays have shape (representatives, plans), as in pipeline.Layout.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.states import SHARDED_FROM, held_bytes
from simtrain.spec.frozen import Part
from simtrain.spec.job import Job
from simtrain.spec.placement import CPU, NVME, State
from simtrain.spec.plan import PlanTable
from simtrain.workload.adapters import trained_in_layer
from simtrain.workload.parameters import parameters
from simtrain.workload.rule import Rule
from simtrain.workload.strategies.offload import leaves, place
from simtrain.workload.strategies.pipeline import Layout, Stages


@dataclass(frozen=True)
class Holding:
    """Parameters of one kind on a stage's rank before sharding, and the ranks they are shared with."""

    parameters: Stages
    trained: Stages
    """Of these, or adapters beside them, parameters with a gradient."""
    frozen: Stages
    """Of these, parameters without one."""
    shards: NDArray[np.float64]
    """Ranks a sharded state is spread over."""
    replicas: NDArray[np.float64]
    """Shard groups that hold the same states."""
    stride: NDArray[np.float64]
    """Distance of neighbouring ranks of the shard group."""


@dataclass(frozen=True)
class States:
    """Bytes on the fullest rank of each representative stage."""

    weights: Stages
    gradients: Stages
    optimizer: Stages
    gathered: Stages
    """Whole weights and gradients in use while parameters are sharded: a layer and those prefetched, and the
    larger of embedding and head, a unit of its own (FSDP, arXiv 2304.11277); or all weights of a stage where the stack
    gathers them once a step in pipelines."""
    host: Stages
    """What of them is in host memory instead; on its way there a bucket of gradients is on the device."""
    drives: Stages
    """What of them is on drives."""
    dense: Holding
    expert: Holding


def gradient_bytes(job: Job) -> float:
    """Bytes of an accumulated gradient element."""
    return max(job.stack.gradient_bytes.value, job.precision.minimum_gradient_bytes)


def wire_bytes(job: Job) -> float:
    """Bytes of a gradient element on its way to other ranks."""
    return max(job.stack.reduction_bytes.value, job.precision.minimum_gradient_bytes)


def holdings(job: Job, plans: PlanTable, layout: Layout) -> tuple[Holding, Holding]:
    """Dense and expert parameters a rank would hold without state sharding."""
    model, counts = job.model, parameters(job.model)
    tp = plans.tp
    moe = layout.layers - layout.dense
    latent = model.latent
    compressing = model.hidden * latent.compressed if latent else 0
    layer = (counts.attention - compressing) / tp + compressing + counts.layer_norms
    dense = (
        layout.layers * layer
        + layout.dense * (counts.dense_mlp / tp)
        + moe * (counts.shared_expert / tp + counts.router)
        + sum(ends(job, plans, layout))
    )
    expert_count = model.experts.count if model.experts else 0
    expert = moe * (expert_count * counts.expert / (plans.etp * plans.ep))
    group = (plans.dp * plans.cp).astype(float)
    shards = np.minimum(plans.shard_group, group)
    folded = group * tp / (plans.etp * plans.ep)
    expert_shards = np.maximum(shards * folded / group, 1.0)
    trained = (dense, expert)
    if job.frozen:
        trained = (layout.layers * (trained_in_layer(job) / tp), np.zeros_like(expert))
    elif not job.trains_all:
        attention = layout.layers * (layer - counts.layer_norms / 2)
        first, last = ends(job, plans, layout)
        forward = dense - first - last - attention
        parts: dict[Part, Stages] = {"attention": attention, "feed-forward": forward, "embedding": first, "head": last}
        trained = (
            sum((job.trained(part) * held for part, held in parts.items()), np.zeros_like(dense)),
            job.trained("feed-forward") * expert,
        )
    still = (dense, expert) if job.frozen else (dense - trained[0], expert - trained[1])
    ranks = (plans.etp * plans.ep).astype(float)
    return (
        Holding(dense, trained[0], still[0], shards, group / shards, tp.astype(float)),
        Holding(expert, trained[1], still[1], expert_shards, folded / expert_shards, ranks),
    )


def ends(job: Job, plans: PlanTable, layout: Layout) -> tuple[Stages, Stages]:
    """Parameters of embedding and of head on a rank; tied ones count once on one stage, at both ends of several."""
    counts = parameters(job.model)
    tied = np.where((plans.pp > 1) & (plans.folded == 0), counts.embedding, 0) if job.model.tied_embeddings else 0
    first = layout.embedding * (counts.embedding / plans.tp + counts.positions)
    further = job.model.prediction_modules * counts.prediction
    return first, layout.head * ((counts.head + tied + further) / plans.tp + counts.final_norm)


def states(job: Job, plans: PlanTable, layout: Layout) -> States:
    """Bytes of every state class, by the state table.

    Frozen weights are kept once, as they travel: no other layout of them waits for a weight gradient's product.
    """
    precision = job.precision
    dense, expert = holdings(job, plans, layout)

    def bytes_of(state: str, width: float | Stages) -> Stages:
        first = SHARDED_FROM[state]
        return held_bytes(dense.trained, width, plans.zero, first, dense.shards) + held_bytes(
            expert.trained, width, plans.zero, first, expert.shards
        )

    parameters_held = dense.parameters + expert.parameters
    first, last = ends(job, plans, layout)
    layer = (parameters_held - first - last) / np.maximum(layout.layers, 1)
    weight, gradient = precision.gathered_weight_bytes, precision.minimum_gradient_bytes * (not job.frozen)
    whole_layers = 1 + job.stack.messages.prefetched.value
    working = np.where(
        plans.zero == 3, layer * (whole_layers * weight + gradient) + np.maximum(first, last) * (weight + gradient), 0.0
    )
    trained = dense.trained + expert.trained
    whole = kept_whole(job, plans)
    copied = trained * job.stack.reduction_copy.value * ((plans.dp * plans.cp > 1) & (plans.zero < 2))
    reduced = max(job.stack.reduction_bytes.value, gradient)
    single = job.stack.single_copy.value and precision.master_bytes > 0
    widths = precision.gathered_weight_bytes, 0.0 if single else precision.weight_bytes
    weights = _held(plans, dense, *widths) + _held(plans, expert, *widths)
    gradients = np.where(whole, trained * reduced, bytes_of("gradients", gradient_bytes(job)) + copied)
    kept: dict[State, float] = {"master": precision.master_bytes, "moments": job.optimizer.moment_bytes}
    stays = np.sum([width * ~leaves(plans, state) for state, width in kept.items()], axis=0)
    whole_states: dict[State, Stages] = {
        "weights": weights,
        "gradients": gradients,
        **{state: bytes_of("optimizer", width) for state, width in kept.items()},
    }
    host, drives = (
        sum(((place(plans, state) == there) * size for state, size in whole_states.items()), np.zeros(len(plans)))
        for there in (CPU, NVME)
    )
    bucketed = np.minimum(gradients, job.stack.bucket.value)
    return States(
        weights=np.where(leaves(plans, "weights"), 0.0, weights),
        gradients=np.where(leaves(plans, "gradients"), bucketed, gradients),
        optimizer=bytes_of("optimizer", stays),
        gathered=np.where(whole, parameters_held * weight, working),
        host=host,
        drives=drives,
        dense=dense,
        expert=expert,
    )


def _held(plans: PlanTable, kind: Holding, frozen: float, trained: float) -> Stages:
    """Bytes of one kind's weights, of so many bytes each."""
    parts = ((kind.frozen, frozen), (kind.parameters - kind.frozen, trained))
    of_frozen, of_trained = (
        held_bytes(part, width, plans.zero, SHARDED_FROM["weights"], kind.shards) for part, width in parts
    )
    return of_frozen + of_trained


def kept_whole(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    """Whether sharded weights stay gathered, and gradients whole, from microbatch to microbatch."""
    return np.asarray((plans.zero == 3) & (plans.pp > 1) & job.stack.whole_in_pipeline.value)


def gathers_back(job: Job, rebuilt: NDArray[np.float64]) -> NDArray[np.float64]:
    """How often sharded weights are gathered for a backward pass, `rebuilt` being the share of layers that are made
    again before it; same shape."""
    return 1 + rebuilt * job.stack.messages.gathered_to_rebuild.value


def reduced_every(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    """Whether gradients are reduced, or go to the host, after every microbatch rather than once a step."""
    return np.asarray(((plans.zero >= 2) & ~kept_whole(job, plans)) | leaves(plans, "gradients"))


def reduced_late(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    """Whether all gradients are all-reduced in one call after the last backward pass."""
    return np.asarray((plans.zero == 1) & job.stack.late_reduction.value)


def updated(job: Job, plans: PlanTable, kind: Holding) -> Stages:
    """Parameters of one kind that one rank updates."""
    return held_bytes(kind.trained, 1.0, plans.zero, SHARDED_FROM["optimizer"], kind.shards)


def update_bytes(job: Job) -> float:
    """Memory traffic of updating one parameter: the optimizer's own, and the stack's passes around it.

    The optimizer reads the gradient, reads and writes moments and the master copy or, without one, the weight, and
    writes the weight.
    """
    precision = job.precision
    updated = 2 * precision.master_bytes or precision.weight_bytes
    own = gradient_bytes(job) + updated + job.optimizer.traffic_bytes + precision.weight_bytes
    return own + job.stack.update_bytes.value


RULES = (
    Rule(
        "the stack has this state sharding",
        "this training stack does not offer that ZeRO stage",
        lambda job, plans: np.isin(plans.zero, job.stack.sharding),
    ),
    Rule(
        "sharding needs data-parallel ranks",
        "with one data-parallel rank there is nothing to shard over",
        lambda job, plans: (plans.zero == 0) | (plans.dp * plans.cp > 1),
    ),
    Rule(
        "a shard group is used",
        "unsharded states have a shard group of 1, sharded ones more",
        lambda job, plans: (plans.zero == 0) == (plans.shard_group == 1),
    ),
    Rule(
        "the shard group divides the data-parallel ranks",
        "every replica of the states holds equal shares",
        lambda job, plans: (plans.dp * plans.cp) % plans.shard_group == 0,
    ),
    Rule(
        "the stack has hybrid sharding",
        "this training stack shards over the whole data-parallel group",
        lambda job, plans: (
            np.full(len(plans), job.stack.hybrid_sharding)
            | (plans.zero == 0)
            | (plans.shard_group == plans.dp * plans.cp)
        ),
    ),
)
