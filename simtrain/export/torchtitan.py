"""torchtitan: a plan as its TOML, and back (names: torchtitan 0.2.2, torchtitan/config/job_config.py)."""

import tomllib
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.export.settings import Imported, Settings, Value, flat, frozen_parts, run_steps, stack_remark
from simtrain.spec.catalog import model
from simtrain.spec.job import Job
from simtrain.spec.library import path_of, read_toml
from simtrain.spec.plan import Plan

NAME: Final = "torchtitan"
STACKS: Final = ("torchtitan",)
AXES: Final = {"tensor": "tp", "pipeline": "pp", "context": "cp_ring", "expert": "ep", "expert_tensor": "etp"}
"""Columns by what stands before `_parallel_degree`; `expert_tensor` is absent without experts."""
HEARD: Final = (
    *(f"parallelism.{axis}_parallel_degree" for axis in AXES),
    "parallelism.data_parallel_replicate_degree",
    "parallelism.data_parallel_shard_degree",
    "parallelism.fsdp_reshard_after_forward",
    "parallelism.pipeline_parallel_schedule",
    "parallelism.pipeline_parallel_layers_per_stage",
    "parallelism.pipeline_parallel_microbatch_size",
    "parallelism.pipeline_parallel_first_stage_less_layers",
    "parallelism.pipeline_parallel_last_stage_less_layers",
    "training.local_batch_size",
    "training.global_batch_size",
    "training.seq_len",
    "training.enable_cpu_offload",
    "training.mixed_precision_param",
    "activation_checkpoint.mode",
    "activation_checkpoint.selective_ac_option",
    "model.name",
    "model.flavor",
    "model.converters",
    "quantize.linear.float8.recipe_name",
)
"""Keys that are read."""


def table() -> dict[str, Any]:
    """Names of models, schedules and formats."""
    return read_toml(path_of("catalog/trainers", f"{NAME}.toml"))


def settings(job: Job, plan: Plan) -> Settings:
    """Every key a plan needs, dotted."""
    names = table()
    lost: list[str] = []
    values: dict[str, Value] = {}
    if job.model.name in names["models"]:
        values["model.name"], values["model.flavor"] = names["models"][job.model.name]
    else:
        lost.append(f"model {job.model.name}: torchtitan has no flavour of it here; register one and name it")
    values |= {
        "training.seq_len": job.sequence,
        "training.global_batch_size": plan.global_batch,
        "training.local_batch_size": plan.micro_batch if plan.pp == 1 else plan.global_batch // plan.dp,
    }
    for kind, name in (("precisions", job.precision.name), ("optimizers", job.optimizer.name)):
        if name in names[kind]:
            values |= names[kind][name]
        else:
            lost.append(f"{kind.removesuffix('s')} {name}: no key selects it")
    if steps := run_steps(job, plan):
        values["training.steps"] = steps
    values |= _parallel(job, plan, names, lost) | _recomputation(job, plan, lost)
    values["compile.enable"] = True
    if plan.offload == "all":
        values["training.enable_cpu_offload"] = True
    elif plan.offload != "none":
        lost.append(f"offload {plan.offload}: torchtitan moves all states to the host or none")
    lost.extend(frozen_parts(job))
    if job.frozen:
        lost.append(f"adapters of rank {job.adapter_rank}: these keys train every weight")
    version = "for torchtitan 0.2: later versions read no TOML, their settings have the same names"
    return Settings(values, tuple(lost), (version, *stack_remark(job, STACKS, "torchtitan")))


def _parallel(job: Job, plan: Plan, names: dict[str, Any], lost: list[str]) -> dict[str, Value]:
    values: dict[str, Value] = {
        f"parallelism.{axis}_parallel_degree": getattr(plan, name) for axis, name in AXES.items()
    }
    if plan.cp_head > 1:
        lost.append(f"ulysses {plan.cp_head}: torchtitan 0.2 passes keys and values around, it exchanges no heads")
    if plan.tp > 1 and not plan.sp:
        lost.append("tensor parallelism without sequence parallelism: torchtitan 0.2 always has both")
    if plan.zero == 1:
        lost.append("zero 1: torchtitan shards parameters, too, or nothing")
    copies = plan.dp * plan.cp_ring * plan.cp_head // plan.shard_group
    replicas = copies if plan.zero else plan.dp
    if plan.dp % replicas:
        lost.append(f"states in groups of {plan.shard_group}: replicas must divide the data-parallel ranks")
    values |= {
        "parallelism.data_parallel_replicate_degree": replicas,
        "parallelism.data_parallel_shard_degree": max(plan.dp // replicas, 1),
        "parallelism.fsdp_reshard_after_forward": "never" if plan.zero == 2 else "default",
    }
    if not plan.zero and plan.cp_ring > 1:
        lost.append("unsharded states with context parallelism: torchtitan shards over its ranks")
    if plan.pp == 1:
        return values
    if plan.schedule in names["schedules"]:
        values["parallelism.pipeline_parallel_schedule"] = names["schedules"][plan.schedule]
    else:
        lost.append(f"schedule {plan.schedule}: torchtitan does not name it")
    if job.model.layers % (plan.pp * plan.vpp):
        lost.append(f"{job.model.layers} layers over {plan.pp} stages: state module_fqns_per_model_part yourself")
    return values | {
        "parallelism.pipeline_parallel_layers_per_stage": -(-job.model.layers // (plan.pp * plan.vpp)),
        "parallelism.pipeline_parallel_first_stage_less_layers": 0,
        "parallelism.pipeline_parallel_last_stage_less_layers": 0,
        "parallelism.pipeline_parallel_microbatch_size": plan.micro_batch,
    }


def _recomputation(job: Job, plan: Plan, lost: list[str]) -> dict[str, Value]:
    mode: dict[str, Value] = {"activation_checkpoint.mode": plan.recompute}
    if plan.recompute == "selective":
        mode["activation_checkpoint.selective_ac_option"] = "op"
    if plan.full_layers:
        each = job.model.layers // plan.pp
        if plan.recompute == "none" and job.model.layers % plan.pp == 0 and each % plan.full_layers == 0:
            every = str(each // plan.full_layers)
            return {"activation_checkpoint.mode": "selective", "activation_checkpoint.selective_ac_option": every}
        lost.append(f"{plan.full_layers} of {each} layers recomputed in full: torchtitan takes one layer in so many")
    return mode


def read(text: str) -> Imported:
    """Job and layout of a configuration; WrongInput where it is no TOML, unreadable or contradictory."""
    try:
        given = flat(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise WrongInput([Problem("ARGS", None, f"is not valid TOML: {error}", "give torchtitan's own file")]) from None
    names = table()
    numbers = {name: value for name, value in given.items() if isinstance(value, int) and not isinstance(value, bool)}
    counted = [name for name in HEARD if name.endswith(("_degree", "_size", "seq_len", "layers_per_stage"))]
    problems = [
        Problem(name, given[name], "must be a whole number")
        for name in counted
        if name in given and name not in numbers
    ]
    problems += [
        Problem(name, numbers[name], "must be at least 1", "write 1 or leave it out")
        for name in counted
        if name in numbers and numbers[name] < 1 and numbers[name] != -1
    ]
    if numbers.get("training.local_batch_size", 1) < 1:
        problems.append(
            Problem("training.local_batch_size", numbers["training.local_batch_size"], "must be at least 1")
        )
    layout, replicas, remarks = _layout(given, numbers, names, problems)
    shards = numbers.get("parallelism.data_parallel_shard_degree", -1)
    flavour = [given.get("model.name", "llama3"), given.get("model.flavor")]
    known = {name: entry for name, entry in names["models"].items() if entry == flavour}
    if not known and "model.flavor" in given:
        remarks.append(f"model {flavour[0]} {flavour[1]} is not in the catalog: name one before the cluster")
    if problems:
        raise WrongInput(problems)
    precision = max(
        (name for name, wanted in names["precisions"].items() if wanted.items() <= (_DEFAULT | given).items()),
        key=lambda name: len(names["precisions"][name]),
        default="bf16-mixed",
    )
    if given.get("model.converters") and "model.converters" not in names["precisions"][precision]:
        remarks.append(f"converters {given['model.converters']} are not in the catalog like this: {precision} is taken")
    job = {"precision": precision}
    for field, key in (("seq", "training.seq_len"), ("global_batch", "training.global_batch_size")):
        if numbers.get(key, -1) > 0:
            job[field] = str(numbers[key])
    silent = [
        name
        for name in given
        if name not in HEARD
        and (
            name.split(".")[0] in names["sections"]["without_effect"]
            or name in names["sections"]["keys_without_effect"]
        )
    ]
    return Imported(
        job=job,
        layout=layout,
        model=model(next(iter(known))) if known else None,
        replicas=replicas,
        data_ranks=replicas * shards if shards > 0 else None,
        unknown=tuple(name for name in given if name not in HEARD and name not in silent),
        without_effect=tuple(silent),
        remarks=tuple(remarks),
    )


_DEFAULT: Final[dict[str, Any]] = {"training.mixed_precision_param": "bfloat16"}
Flat = dict[str, Any]


def _layout(
    given: Flat, numbers: dict[str, int], names: dict[str, Any], problems: list[Problem]
) -> tuple[dict[str, Any], int, list[str]]:
    def degree(key: str, default: int = 1) -> int:
        return numbers.get(f"parallelism.{key}", default)

    tp, pp = degree("tensor_parallel_degree"), degree("pipeline_parallel_degree")
    each = numbers.get("parallelism.pipeline_parallel_layers_per_stage")
    shard, replicas = degree("data_parallel_shard_degree", -1), degree("data_parallel_replicate_degree")
    sharded = shard != 1 or degree("context_parallel_degree") > 1
    word = given.get("parallelism.pipeline_parallel_schedule", "1F1B")
    schedules = {title: name for name, title in names["schedules"].items()}
    if pp > 1 and str(word) not in schedules:
        known = ", ".join(schedules)
        problems.append(Problem("parallelism.pipeline_parallel_schedule", word, "is not known", f"known: {known}"))
    mode = given.get("activation_checkpoint.mode", "selective")
    option = str(given.get("activation_checkpoint.selective_ac_option", "2"))
    every = int(option) if mode == "selective" and option.isdecimal() and int(option) else 0
    if mode not in ("none", "selective", "full"):
        problems.append(Problem("activation_checkpoint.mode", mode, "must be none, selective or full"))
    remarks = [] if sharded or replicas == 1 else ["states are whole on every rank: data_parallel_shard_degree is 1"]
    batch = numbers.get("training.local_batch_size", 8)
    micro = batch if pp == 1 else degree("pipeline_parallel_microbatch_size")
    if numbers.get("training.global_batch_size", -1) < 1:
        remarks.append("global_batch_size is not stated: every rank takes its local batch once")
    layout = {
        "tp": tp,
        "pp": pp,
        "vpp": 1,
        "cp": degree("context_parallel_degree"),
        "ulysses": 1,
        "ep": degree("expert_parallel_degree"),
        "etp": degree("expert_tensor_parallel_degree"),
        "zero": (2 if given.get("parallelism.fsdp_reshard_after_forward") == "never" else 3) if sharded else 0,
        "micro_batch": micro,
        "recompute": "none" if every else mode,
        "full_layers": 0,
        "offload": "all" if given.get("training.enable_cpu_offload") is True else "none",
        "schedule": schedules.get(str(word)) if pp > 1 else "1f1b",
    }
    if numbers.get("training.global_batch_size", -1) < 1 and micro:
        layout["accumulation"] = max(batch // micro, 1)
    written: dict[str, Any] = {name: str(value) for name, value in layout.items()}
    return written | {"sp": tp > 1, "layers_per_chunk": each, "full_every": every}, replicas, remarks
