"""DeepSpeed: a plan as its JSON, and back (names: deepspeed 0.17, deepspeed/runtime/config.py and zero/config.py)."""

import json
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.export.settings import (
    Imported,
    Settings,
    Value,
    flat,
    frozen_parts,
    microbatches,
    run_steps,
    stack_remark,
)
from simtrain.spec.job import Job
from simtrain.spec.placement import OFFLOAD, PLACE_OF, PLACES, placement
from simtrain.spec.plan import Plan

NAME: Final = "deepspeed"
STACKS: Final = ("deepspeed", "deepspeed-2021")
FORMATS: Final = {"bf16-mixed": "bf16", "fp16-mixed": "fp16", "fp32": None}
HEARD: Final = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "zero_optimization.stage",
    "zero_optimization.mics_shard_size",
    "zero_optimization.offload_optimizer.device",
    "zero_optimization.offload_param.device",
    "bf16.enabled",
    "fp16.enabled",
    "tensor_parallel.autotp_size",
    "sequence_parallel_size",
    "pipeline.stages",
)
"""Keys that are read."""
WITHOUT_EFFECT: Final = (
    "optimizer.",
    "scheduler.",
    "gradient_clipping",
    "steps_per_print",
    "wall_clock_breakdown",
    "zero_optimization.overlap_comm",
    "zero_optimization.contiguous_gradients",
    "zero_optimization.reduce_bucket_size",
    "zero_optimization.allgather_bucket_size",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save",
    "zero_optimization.offload_optimizer.pin_memory",
    "zero_optimization.offload_param.pin_memory",
    "zero_optimization.offload_optimizer.nvme_path",
    "zero_optimization.offload_param.nvme_path",
    "zero_allow_untested_optimizer",
    "prescale_gradients",
    "fp16.",
    "tensorboard.",
    "wandb.",
    "csv_monitor.",
)
"""Keys, or what they begin with, that change nothing the prediction reads."""
DRIVES: Final = "/local_nvme"
"""The folder of drives in DeepSpeed's documents."""


def settings(job: Job, plan: Plan) -> Settings:
    """Every key a plan needs, dotted."""
    lost = _unsaid(job, plan)
    values: dict[str, Value] = {
        "train_batch_size": plan.global_batch,
        "train_micro_batch_size_per_gpu": plan.micro_batch,
        "gradient_accumulation_steps": microbatches(plan),
        "zero_optimization.stage": plan.zero,
    }
    if plan.zero:
        values |= {"zero_optimization.overlap_comm": True, "zero_optimization.contiguous_gradients": True}
    if plan.zero and plan.shard_group < plan.dp * plan.cp_ring * plan.cp_head:
        values["zero_optimization.mics_shard_size"] = plan.shard_group
    for key, place in _devices(plan.offload).items():
        values[f"zero_optimization.{key}.device"] = place
        values[f"zero_optimization.{key}.pin_memory"] = True
        if place == "nvme":
            values[f"zero_optimization.{key}.nvme_path"] = DRIVES
    if word := FORMATS.get(job.precision.name):
        values[f"{word}.enabled"] = True
    values |= {key: degree for key, degree in _degrees(plan).items() if degree > 1}
    values["gradient_clipping"] = 1.0
    remarks = ["gradient checkpointing is switched in the model: model.gradient_checkpointing_enable()"]
    folders = [f"{DRIVES} stands for a folder on your drives"] if DRIVES in values.values() else []
    return Settings(
        values,
        tuple(lost),
        (*(remarks if plan.recompute == "full" else []), *folders, *stack_remark(job, STACKS, "DeepSpeed")),
    )


def _devices(offload: str) -> dict[str, str]:
    """Where DeepSpeed keeps the optimizer's states, gradients among them, and weights; empty where it cannot."""
    weights, gradients, master, moments = (PLACES[place] for place in PLACE_OF[OFFLOAD.index(offload)])
    if not gradients == master == moments or (weights != "device" and moments == "device"):
        return {}
    places = {"offload_optimizer": moments, "offload_param": weights}
    return {key: place for key, place in places.items() if place != "device"}


def _degrees(plan: Plan) -> dict[str, int]:
    return {
        "tensor_parallel.autotp_size": plan.tp,
        "sequence_parallel_size": plan.cp_head,
        "pipeline.stages": plan.pp,
    }


def _unsaid(job: Job, plan: Plan) -> list[str]:
    partly = 0 < plan.shard_group < plan.dp * plan.cp_ring * plan.cp_head
    checks = {
        f"model {job.model.name} and its sequence of {job.sequence}: your script names them": True,
        f"a run of {run_steps(job, plan)} steps: your script counts them": job.tokens is not None,
        f"recomputation {plan.recompute}: your model's code switches it": plan.recompute != "none",
        f"{plan.full_layers} layers recomputed in full: your model's code does it": plan.full_layers > 0,
        f"context ring of {plan.cp_ring}: DeepSpeed exchanges heads only": plan.cp_ring > 1,
        "sequence parallelism over tensor ranks: autotp has none": plan.sp,
        f"{plan.vpp} chunks a stage: PipelineModule has one": plan.vpp > 1,
        f"schedule {plan.schedule}: PipelineModule runs 1F1B": plan.pp > 1 and plan.schedule != "1f1b",
        f"expert degrees {plan.ep} x {plan.etp}: deepspeed.moe.layer.MoE takes them in code": plan.ep * plan.etp > 1,
        f"zero {plan.zero} in a pipeline: DeepSpeed's engine takes stage 0 or 1": plan.pp > 1 and plan.zero > 1,
        f"states in groups of {plan.shard_group}: MiCS is for stage 3": bool(plan.zero) and partly and plan.zero != 3,
        f"offload {plan.offload}: the optimizer's states and gradients go together, and weights only with them": (
            plan.offload != "none" and not _devices(plan.offload)
        ),
        f"precision {job.precision.name}: no key selects it": job.precision.name not in FORMATS,
        f"optimizer {job.optimizer.name}: your script builds it": job.optimizer.name != "adamw",
        f"adapters of rank {job.adapter_rank}: your script adds them": job.frozen,
    }
    return [*(what for what, held in checks.items() if held), *frozen_parts(job)]


def read(text: str) -> Imported:
    """Job and layout of a configuration; WrongInput where it is no JSON, unreadable or contradictory."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise WrongInput([Problem("ARGS", None, f"is not valid JSON: {error}", "give DeepSpeed's own file")]) from None
    if not isinstance(data, dict):
        raise WrongInput([Problem("ARGS", None, "is not a JSON object", "give DeepSpeed's own file")])
    given = flat(data)
    remarks = [f"{name} is auto: your script decides, state it here" for name in HEARD if given.get(name) == "auto"]
    stated = {name: value for name, value in given.items() if name in HEARD and value != "auto"}
    if stated.get("zero_optimization.mics_shard_size") == -1:
        del stated["zero_optimization.mics_shard_size"]
    counted = [name for name in HEARD if not name.endswith((".enabled", ".device"))]
    problems = [
        Problem(name, stated[name], "must be a whole number")
        for name in counted
        if name in stated and (not isinstance(stated[name], int) or isinstance(stated[name], bool) or stated[name] < 0)
    ]
    formats = [word for word in ("bf16", "fp16") if stated.get(f"{word}.enabled") is True]
    if len(formats) > 1:
        problems.append(Problem("bf16.enabled fp16.enabled", None, "name two number formats", "switch one off"))
    stage = stated.get("zero_optimization.stage", 0)
    away = {state: stated.get(f"zero_optimization.offload_{state}.device") for state in ("param", "optimizer")}
    weights, moments = (None if place == "none" else place for place in away.values())
    if weights and not moments:
        remarks.append(
            "offload_param alone is taken as offload of all states: DeepSpeed wants the optimizer's there, too"
        )
        moments = weights
    problems += [
        Problem(f"zero_optimization.offload_{state}.device", place, "is no device", "say cpu, nvme or none")
        for state, place in away.items()
        if place not in (None, "none", "cpu", "nvme")
    ]
    if not formats and "auto" in (given.get("bf16.enabled"), given.get("fp16.enabled")):
        remarks.append("a number format that is auto is taken as off, fp32: state --precision")
    if weights and stage != 3:
        rule = "is for stage 3, where weights are sharded"
        problems.append(Problem("zero_optimization.offload_param", None, rule, "say stage 3, or leave it out"))
    if problems:
        raise WrongInput(problems)
    words = {word: name for name, word in FORMATS.items()}
    job = {"precision": words[formats[0] if formats else None]}
    batch, micro = stated.get("train_batch_size"), stated.get("train_micro_batch_size_per_gpu")
    if batch:
        job["global_batch"] = str(batch)
    layout: dict[str, Any] = {
        "tp": stated.get("tensor_parallel.autotp_size", 1),
        "pp": stated.get("pipeline.stages", 1),
        "ulysses": stated.get("sequence_parallel_size", 1),
        "zero": stage,
        "micro_batch": micro,
        "accumulation": stated.get("gradient_accumulation_steps"),
        "shard_group": stated.get("zero_optimization.mics_shard_size"),
        "offload": placement(f"optimizer={moments or 'device'},weights={weights or 'device'}"),
    }
    silent = tuple(name for name in given if name not in HEARD and name.startswith(WITHOUT_EFFECT))
    return Imported(
        job=job,
        layout={name: str(value) for name, value in layout.items() if value is not None},
        unknown=tuple(name for name in given if name not in HEARD and name not in silent),
        without_effect=silent,
        remarks=tuple(remarks),
    )
