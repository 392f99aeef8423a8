"""A measured run beside its prediction, term by term."""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from simtrain.errors import Problem
from simtrain.estimate import TERMS, machine
from simtrain.estimate.passes import priced, stage_passes
from simtrain.estimate.replayed import replayed
from simtrain.price.blocks import CATEGORIES
from simtrain.price.step import sync_time
from simtrain.search.layout import described, stated
from simtrain.search.space import broken_rules
from simtrain.spec import load
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
OPERATORS: Final = (
    (
        "communication",
        r"nccl|c10d|gloo|wait_tensor|FSDP::(all_gather|post_backward_reduce|.*wait)|all_?reduce|ProcessGroup",
    ),
    ("optimizer", r"adam|multi_tensor_apply"),
    ("attention", r"scaled_dot_product|flash|fmha|attention"),
    ("matmul", r"aten::(mm|bmm|addmm|_scaled_mm)$|gemm|cutlass|cublas|nvjet|xmma"),
    (
        "elementwise",
        r"elementwise|reduce_kernel|norm|softmax|CatArray|indexing|scatter_gather|"
        r"aten::(add|mul|div|sub|neg|silu|gelu|sigmoid|exp|log|pow|rsqrt|mean|sum|amax|cat|copy|gather|index|embedding)",
    ),
)
"""Patterns of torch.profiler's operator or kernel names, in the order they are tried; all others (copies to and from
the host, what a library does beside the passes) are other compute."""
LEFT: Final = ("reserve", "fragmentation")
"""Classes of memory that are no tensors."""


@dataclass(frozen=True)
class Row:
    """One quantity, predicted and measured; None where a side has none."""

    name: str
    unit: str
    predicted: float | None
    measured: float | None

    @property
    def error(self) -> float | None:
        """Predicted over measured, minus 1."""
        if self.predicted is None or not self.measured:
            return None
        return self.predicted / self.measured - 1


def worker_job(job: Job) -> Job:
    """The job with the stack that describes the validation worker on its device."""
    stack = "torch-plain-gloo" if job.cluster.device.architecture == "cpu" else "torch-plain"
    return job.model_copy(update={"stack": load.stack(stack)})


def unsupported(job: Job, plan: Plan) -> list[Problem]:
    """What the worker cannot build or lay out."""
    model, asked = job.model, []
    features = {
        "latent attention": model.latent is not None,
        "sliding windows": model.window is not None,
        "learned positions": model.learned_positions > 0,
        "biases": model.query_key_value_bias or model.output_bias or model.mlp_bias or model.head_bias,
        "norms of queries and keys": model.qk_norm != "none",
        "more than two norms a layer": model.norms_per_layer != 2 or model.embedding_norm,
        "shared experts": model.experts is not None and model.experts.shared_ffn > 0,
        "tied embeddings": model.tied_embeddings,
    }
    asked += [
        Problem(f"model {model.name}", None, f"has {name}, which the worker does not build")
        for name, has in features.items()
        if has
    ]
    layouts = {
        "--cp (ring)": plan.cp_ring > 1,
        "experts with tensor ranks": model.experts is not None and plan.tp > 1,
        "adapters": job.frozen,
        "frozen weights": bool(job.freeze),
        "a memory plan": plan.memory is not None,
        "more tensor ranks than key-value heads": model.kv_heads % plan.tp > 0,
        "a vocabulary that tensor ranks do not divide": model.vocabulary % plan.tp > 0,
        "offloaded optimizer states beside sharding": plan.offload == "optimizer" and plan.zero > 0,
        "offload of weights without sharding": plan.offload == "all" and plan.zero == 0,
    }
    asked += [
        Problem("layout", None, f"has {name}, which the worker does not run") for name, has in layouts.items() if has
    ]
    if job.precision.matmul not in ("fp32", "tf32", "bf16"):
        asked.append(Problem("precision", job.precision.name, "is not run by the worker", "use bf16-mixed or fp32"))
    table = PlanTable.of([plan])
    broken = broken_rules(job, table)[0]
    return asked + [Problem(f"worker: {described(job, table, rule)}", None, stated(rule)) for rule in broken]


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
    return Prediction(found.step.seconds, seconds, memory, tuple(sent(program, 0, int(r)) for r in found.stages))


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
    overheads = microbatches * job.stack.microbatch_overhead.value + job.stack.step_overhead.value
    seconds["other compute"] += overheads
    seconds["optimizer"] = float(sync.update[representative, 0])
    return Prediction(sum(seconds.values()), seconds, _slice_memory(program, representative), ())


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


def grouped(operators: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a step by GROUPS from torch.profiler's rows."""
    seconds = dict.fromkeys(GROUPS, 0.0)
    for row in operators:
        group = next(
            (name for name, pattern in OPERATORS if re.search(pattern, row["name"], re.IGNORECASE)), "other compute"
        )
        seconds[group] += row["time_s"]
    return seconds


def compared(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    """Every quantity both sides know."""
    steps = [second for rank in ranks for second in rank["step_times_s"]]
    step = float(np.median(steps)) if steps else None
    rows = [Row("step", "s", prediction.step_time, step)]
    measured = [grouped(rank["operators"]) for rank in ranks if rank.get("operators")]
    for name in GROUPS:
        mean = float(np.mean([seconds[name] for seconds in measured])) if measured else None
        if name == "bubble":
            mean = None
        rows.append(Row(name, "s", prediction.seconds[name], mean))
    rows += _memory(prediction, ranks) + _messages(prediction, ranks)
    energy = [rank["energy"]["energy_per_step_j"] for rank in ranks if rank.get("energy")]
    if energy:
        rows.append(Row("energy of a step", "J", None, float(sum(energy))))
    return rows


def _memory(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    held = [rank["memory"] for rank in ranks if rank.get("memory", {}).get("watched_peak_bytes")]
    if not held:
        return []
    tensors = sum(size for name, size in prediction.memory.items() if name not in LEFT)
    rows = [
        Row("tensors at the peak", "B", tensors, float(max(rank["watched_peak_bytes"] for rank in held))),
        Row("optimizer states", "B", prediction.memory["optimizer"], float(max(r["optimizer_bytes"] for r in held))),
    ]
    if all("peak_reserved_bytes" in rank for rank in held):
        reserved = float(max(rank["peak_reserved_bytes"] for rank in held))
        rows.append(Row("reserved", "B", tensors + prediction.memory["fragmentation"], reserved))
    return rows


def _messages(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    """Counts and bytes of every axis and collective, over all ranks that recorded them."""
    sides: tuple[dict[tuple[str, str], list[float]], ...] = ({}, {})
    for rank in ranks:
        if "messages" not in rank or not prediction.messages:
            continue
        for entry in prediction.messages[rank["stage"]]:
            total = sides[0].setdefault((entry.axis, entry.collective), [0.0, 0.0])
            total[0], total[1] = total[0] + entry.count, total[1] + entry.size
        for row in rank["messages"]:
            total = sides[1].setdefault((row["axis"], row["collective"]), [0.0, 0.0])
            total[0], total[1] = total[0] + row["count"], total[1] + row["bytes"]
    rows = []
    for key in sorted(sides[0].keys() | sides[1].keys()):
        name = f"{key[0]} {key[1].replace('_', '-')}"
        for place, unit in enumerate(("calls", "B")):
            rows.append(Row(name, unit, *(side.get(key, [0.0, 0.0])[place] for side in sides)))
    return rows
