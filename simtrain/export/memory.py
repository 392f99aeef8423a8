"""Memory plans in the terms trainers have: recomputation of layers or modules, and modules whose inputs move."""

from typing import Final

import numpy as np

from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MADE_AGAIN, MemoryPlan
from simtrain.spec.memory_policy import KINDS, Kind
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.tensors import TensorName
from simtrain.workload.program import Program, program
from simtrain.workload.strategies.pipeline import stage_layers

Whole = dict[TensorName, Kind]
"""What happens to tensors in every layer of every stage."""
MODULES_AGAIN: Final[dict[frozenset[TensorName], str]] = {
    frozenset({"attention"}): "core_attn",
    frozenset({"normed"}): "layernorm",
    frozenset({"expanded", "activated"}): "mlp",
}
"""Megatron-Core's modules by the tensors of a dense layer that recomputing them makes again."""
MIXTURE_AGAIN: Final[dict[frozenset[TensorName], str]] = {
    frozenset({"attention"}): "core_attn",
    frozenset({"normed"}): "layernorm",
    frozenset({"routed", "expanded", "activated"}): "moe",
    frozenset({"activated"}): "moe_act",
}
"""The same of a layer with experts."""
MODULES_MOVED: Final[dict[TensorName, str]] = {
    "input": "attn_norm",
    "projected": "core_attn",
    "attention": "attn_proj",
    "middle": "mlp_norm",
    "routed": "expert_fc1",
}
"""Megatron-Core's modules whose inputs, which are these tensors, move to the host."""


def fixed(job: Job, plan: Plan) -> Plan | None:
    """The plan whose `recompute` and `full_layers` say what its memory plan does; None where they cannot."""
    memory = plan.memory
    if memory is None or _chunked(memory):
        return None
    described, layers = _described(job, plan)
    again = [name for name in MADE_AGAIN if name in _present(described)]
    stages = [memory.of(stage) for stage in range(len(layers))]
    counts = {treatment.recompute for stage in stages for treatment in stage.values()}
    others = any(treatment.offload or treatment.quantise for stage in stages for treatment in stage.values())
    kept = plan.model_copy(update={"memory": None})
    if others or any(set(stage) != set(again) for stage in stages):
        core = tuple(job.stack.selective) == ("core attention",) and not job.stack.selective_part
        alone = core and whole(job, plan) == {"attention": "recompute"}
        return kept.model_copy(update={"recompute": "selective"}) if alone else None
    if [{treatment.recompute for treatment in stage.values()} for stage in stages] == [{held} for held in layers]:
        return kept.model_copy(update={"recompute": "full"})
    return kept.model_copy(update={"full_layers": counts.pop()}) if len(counts) == 1 else None


def whole(job: Job, plan: Plan) -> Whole | None:
    """What a memory plan does with tensors where it does so in every layer; None where layers differ, or in chunks."""
    memory = plan.memory
    if memory is None or _chunked(memory):
        return None
    _, layers = _described(job, plan)
    stages: list[Whole] = []
    for stage, held in enumerate(layers):
        found: Whole = {}
        for name, treatment in memory.of(stage).items():
            kinds = [kind for kind in KINDS if getattr(treatment, kind) == held]
            if not kinds:
                return None
            found[name] = kinds[0]
        stages.append(found)
    return stages[0] if all(stage == stages[0] for stage in stages) else None


def modules(job: Job, plan: Plan) -> tuple[list[str], list[str]] | None:
    """Megatron-Core's modules to recompute, and those whose inputs move; None where they do not say it all."""
    treated = whole(job, plan)
    if treated is None or plan.memory is None or plan.memory.tier != "cpu" or "quantise" in treated.values():
        return None
    known = MODULES_AGAIN if job.model.experts is None else MIXTURE_AGAIN
    left = {name for name, kind in treated.items() if kind == "recompute"}
    again = []
    for tensors, module in known.items():
        if tensors <= left:
            again.append(module)
            left -= tensors
    moved = [name for name, kind in treated.items() if kind == "offload"]
    if left or any(name not in MODULES_MOVED for name in moved):
        return None
    return again, [MODULES_MOVED[name] for name in moved]


def _chunked(memory: MemoryPlan) -> bool:
    return memory.loss_chunks > 1 or memory.layer_chunks > 1


def _described(job: Job, plan: Plan) -> tuple[Program, list[int]]:
    """The plan's program, and the layers of every stage."""
    table = PlanTable.of([plan.model_copy(update={"memory": None})])
    return program(job, table, fused_attention=True), stage_layers(job, table)


def _present(described: Program) -> set[TensorName]:
    """Tensors that layers of this model have."""
    blocks = (block for block in (described.layers.dense, described.layers.moe) if block is not None)
    return {name for block in blocks for name, size in block.saved.tensors.items() if np.any(size)}
