"""A published row as a Job and a Plan, or the reason why it cannot be expressed."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from simtrain.errors import WrongInput, nearest
from simtrain.price.profile import UNFUSED
from simtrain.spec import load
from simtrain.spec.base import Evidence, Fact, checked
from simtrain.spec.hardware import Checks, Cluster
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.spec.schedule import TRAITS, Schedule
from simtrain.spec.stack import Stack
from simtrain.validation.corpus import Corpus, Row
from simtrain.validation.fabric import (
    Bandwidths,
    State,
    bus_bandwidths,
    in_state,
    state,
    with_adapters_of,
    with_checks,
    with_nodes_of,
)
from simtrain.validation.setup import Setup, Source, Variant, setup
from simtrain.validation.shapes import shape

SCHEDULES: Final[Mapping[str, Schedule]] = {"": "1f1b", "none": "1f1b", **{name: name for name in TRAITS}}
"""Schedules of the corpus in a Plan's words; a single stage (none) has no order to choose."""
RECOMPUTE: Final = ("none", "selective", "full")
TASKS: Final = ("", "pretrain", "sft", "lora")
"""Tasks a job can say; `lora` trains adapters beside a frozen model."""
Jobs = dict[tuple[Any, ...], Job]
Where = tuple[str, int, int | None, str]
"""Cluster, GPUs, GPUs a node and the network in the row's words."""


@dataclass(frozen=True)
class Expressed:
    """What a row asks of the estimator."""

    row: Row
    job: Job
    """Shared by the rows that differ in their plans only; its global batch is that of one of them."""
    plan: Plan
    assumed: tuple[str, ...]
    """What the row does not state, and what was taken instead."""
    memory: str
    """What the source's memory figure counts (see setup.Source.memory)."""
    first_stage: bool
    """Whether that figure is the first stage's rather than the fullest one's."""


@dataclass(frozen=True)
class Unsupported:
    """A row the estimator cannot express."""

    row: Row
    reason: str


def express(found: Corpus) -> list[Expressed | Unsupported]:
    """Every row in order, predicted from its configuration alone: no measured time or memory is read."""
    settings = setup()
    jobs: Jobs = {}
    return [_express(row, found.models, settings, jobs) for row in found.rows]


def _express(row: Row, models: Mapping[str, Mapping[str, Any]], settings: Setup, jobs: Jobs) -> Expressed | Unsupported:
    stated = models.get(row.model)
    if stated is None:
        return Unsupported(row, f"model {row.model} is not in models.json: {nearest(row.model, models)}")
    reason = _inexpressible(row, settings)
    if reason is not None:
        return Unsupported(row, reason)
    assumed: list[str] = []
    source = settings.source(row)
    try:
        job = _job(row, stated, settings, jobs)
        plan = _plan(row, job.model.layers, source, assumed)
        if row.source not in settings.sources:
            assumed.append(f"stack {settings.stack(row)}")
    except WrongInput as error:
        return Unsupported(row, "; ".join(str(problem) for problem in error.problems))
    if row.gpus != plan.tp * plan.cp_ring * plan.cp_head * plan.pp * plan.dp:
        return Unsupported(row, f"tp x pp x cp x dp is not the {row.gpus} GPUs of the run")
    if plan.global_batch % (plan.dp * plan.micro_batch):
        return Unsupported(row, "the global batch is no multiple of dp x micro batch")
    if plan.tp * plan.cp_ring * plan.cp_head * plan.dp % (plan.ep * plan.etp):
        return Unsupported(row, "the expert mesh (ep x etp) does not divide the ranks of a stage")
    return Expressed(row, job, plan, tuple(assumed), source.memory.value, source.memory_of.value == "first stage")


def _inexpressible(row: Row, settings: Setup) -> str | None:
    """The first thing in a row that no Job or Plan can say."""
    if row.task not in TASKS:
        return f"task {row.task} is not known"
    if row.seq is None:
        return "the sequence length is not stated"
    if row.global_batch is None:
        return "the global batch is not stated"
    if row.schedule.lower() not in SCHEDULES:
        return f"schedule {row.schedule}: plans know {', '.join(sorted(TRAITS))} only"
    if row.offload not in ("", "none", "no", "False"):
        return f"offload ({row.offload}) cannot be expressed"
    if settings.cluster(row) is None:
        return f"GPU {row.gpu} is on no known cluster"
    if settings.precision(row) is None:
        return f"precision {row.precision} is not in the catalog"
    if row.attention_kernel and settings.kernel(row.attention_kernel) is None:
        return f"attention kernel {row.attention_kernel!r} is not known"
    if not row.recompute.startswith((*RECOMPUTE, "unknown")):
        return f"recompute {row.recompute!r} is not known"
    return None


def _plan(row: Row, layers: int, source: Source, assumed: list[str]) -> Plan:
    """The layout, unstated degrees derived or taken from the source's settings."""
    tp, pp, ep = row.tp or 1, row.pp or 1, row.ep or 1
    heads, ring = _context(row)
    dp = row.dp or max(row.gpus // (tp * pp * heads * ring), 1)
    zero = row.zero
    if row.fsdp and zero in (None, 0, 1):
        zero = 3
    if zero is None:
        zero = source.zero.value
        assumed.append(f"zero {zero}")
    group = dp * heads * ring
    if group == 1:
        zero = 0
    schedule, chunks = SCHEDULES[row.schedule.lower()], row.vpp
    micro_batch = row.micro_batch or source.micro_batch.value
    called = schedule in ("interleaved", "breadth-first")
    if chunks is None or (chunks == 1 and called):
        rounds = layers % pp == 0 and row.global_batch is not None and row.global_batch // (dp * micro_batch) % pp == 0
        several = called or (source.unstated_chunks.value == "most" and rounds)
        chunks = _chunks(layers, pp, source.layers_a_chunk.value) if several else 1
        if pp > 1:
            assumed.append(f"vpp {chunks}")
    if pp == 1 or (chunks == 1 and schedule == "interleaved"):
        chunks, schedule = 1, "1f1b"
    elif chunks > 1 and schedule == "1f1b":
        schedule = "interleaved"
    elif TRAITS[schedule].folded:
        least, most, _ = TRAITS[schedule].chunks
        chunks = min(max(chunks, least), most)
    split = row.sp
    if split is None:
        split = source.sequence_parallel.value
        if tp > 1:
            assumed.append("sequence parallelism " + ("on" if split else "off"))
    if row.micro_batch is None:
        assumed.append(f"micro batch {source.micro_batch.value}")
    recompute = next((word for word in RECOMPUTE if row.recompute.startswith(word)), source.recompute.value)
    if row.recompute.startswith("unknown"):
        assumed.append(f"recompute {recompute}")
    fits = dp * heads * ring % ep == 0
    expert_tensor = row.etp or (tp if ep > 1 and fits and source.expert_tensor.value == "tensor degree" else 1)
    if ep > 1 and tp > 1 and row.etp is None:
        assumed.append(f"etp {expert_tensor}")
    data = {
        "tp": tp,
        "sp": split and tp > 1,
        "cp_ring": ring,
        "cp_head": heads,
        "pp": pp,
        "vpp": chunks,
        "ep": ep,
        "etp": expert_tensor,
        "dp": dp,
        "zero": zero,
        "shard_group": min(row.shard_group or group, group) if zero else 1,
        "schedule": schedule,
        "micro_batch": micro_batch,
        "global_batch": row.global_batch,
        "recompute": recompute,
    }
    return checked(Plan, data, "plan")


def _context(row: Row) -> tuple[int, int]:
    """Context degrees over heads and around the ring: the kind `a2a` is over heads, any other a ring."""
    cp, heads = row.cp or 1, row.ulysses or 1
    return (cp * heads, 1) if row.cp_kind == "a2a" else (heads, cp)


def _chunks(layers: int, stages: int, largest: int) -> int:
    """Chunks a stage when none holds more than about `largest` layers: the largest divisor of its layers that small."""
    held = -(-layers // stages)
    size = max(d for d in range(1, min(largest, held) + 1) if held % d == 0)
    return held // size


def _job(row: Row, stated: Mapping[str, Any], settings: Setup, jobs: Jobs) -> Job:
    """The job of a row: one object for all rows that differ in their plans only."""
    cluster = settings.cluster(row)
    precision = settings.precision(row)
    assert cluster is not None
    assert precision is not None
    assert row.seq is not None
    vocabulary = settings.source(row).vocabulary
    stated = stated if vocabulary is None else {**stated, "vocab": vocabulary.value}
    recipe = settings.recipe(row)
    stated = {**stated, "prediction_modules": recipe.prediction_modules}
    where = (cluster, row.gpus, row.gpus_per_node, row.inter)
    checks = settings.source(row).checks
    found = _state(row, where, checks)
    variants = settings.variants(row)
    adapter_rank = settings.source(row).adapter_rank.value if row.task == "lora" else 0
    at = (row.model, stated.get("vocab"), recipe, row.seq, *where, precision)
    key = (*at, settings.stack(row), row.attention_kernel, variants, adapter_rank, found)
    if key not in jobs:
        data = {
            "model": shape(row.model, stated, row.seq),
            "cluster": in_state(_cluster(*where), found, checks),
            "devices": row.gpus,
            "sequence": row.seq,
            "global_batch": (row.global_batch,),
            "precision": load.precision(precision),
            "optimizer": load.optimizer(recipe.optimizer),
            "stack": _varied(_stack(settings.stack(row), row.attention_kernel), variants),
            "adapter_rank": adapter_rank,
        }
        jobs[key] = checked(Job, data, "job")
    return jobs[key]


@functools.cache
def _cluster(name: str, gpus: int, gpus_per_node: int | None, inter: str) -> Cluster:
    return with_adapters_of(with_nodes_of(load.cluster(name, gpus), gpus, gpus_per_node), inter)


@functools.cache
def _law(where: Where, checks: Checks | None) -> Bandwidths:
    cluster = _cluster(*where)
    return bus_bandwidths(cluster if checks is None else with_checks(cluster, checks), where[1])


def _state(row: Row, where: Where, checks: Checks | None) -> State:
    """How the row's network was, by its net columns."""
    columns = (row.net_all_reduce_gbps, row.net_all_gather_gbps, row.net_reduce_scatter_gbps)
    measured = Bandwidths(*(None if value is None else value * 1e9 for value in columns))
    if not measured.stated or row.gpus == 1:
        return State()
    return state(measured, _law(where, None), None if checks is None else _law(where, checks))


@functools.cache
def _stack(name: str, kernel: str) -> Stack:
    """The named stack with what the row's attention_kernel column changes in it."""
    stack = load.stack(name)
    if not kernel:
        return stack
    change = setup().kernel(kernel)
    assert change is not None
    update: dict[str, Any] = {}
    own = stack.attention_kernel.value
    if not (change.keep_fused and own not in UNFUSED):
        update["attention_kernel"] = _stated(change.attention_kernel, change.reason)
    if change.fused_norm is not None:
        update["fused_norm"] = _stated(change.fused_norm, change.reason)
    kept: dict[str, Any] = {name: _stated(size, change.reason) for name, size in change.kept.items()}
    return stack.model_copy(update=update | {"kept": stack.kept.model_copy(update=kept)})


def _varied(stack: Stack, variants: tuple[Variant, ...]) -> Stack:
    """The stack with the options that a row's variants name."""
    for variant in variants:
        update: dict[str, Any] = {}
        for name in ("fused_elementwise", "fused_norm"):
            if getattr(variant, name) is not None:
                update[name] = _stated(getattr(variant, name), variant.reason)
        if variant.tensor_overlap is not None:
            overlap = _stated(variant.tensor_overlap, variant.reason)
            update["overlap"] = stack.overlap.model_copy(update={"tensor": overlap})
        if stack.experts is not None:
            stated = {"overlap_across": variant.exchange_overlap, "dispatcher": variant.dispatcher}
            changed = {name: _stated(value, variant.reason) for name, value in stated.items() if value is not None}
            update["experts"] = stack.experts.model_copy(update=changed)
        if variant.expanded_kept is not None:
            expanded = _stated(variant.expanded_kept, variant.reason)
            update["kept"] = stack.kept.model_copy(update={"expanded": expanded})
        if variant.selective is not None:
            update["selective"] = variant.selective
        stack = stack.model_copy(update=update)
    return stack


def _stated(value: Any, reason: str) -> Fact[Any]:
    return Fact(value=value, source=f"for runs that say so: {reason}", evidence=Evidence.ASSUMED)
