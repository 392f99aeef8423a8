"""Hugging Face Accelerate: a plan as a configuration file (names: accelerate 1.15, ParallelismConfig and FSDP 2)."""

from math import prod
from typing import Final

from simtrain.export.settings import Settings, Value, frozen_parts, microbatches, run_steps, stack_remark
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan

NAME: Final = "accelerate"
STACKS: Final = ("torchtitan", "fms-fsdp", "deepspeed")
PRECISIONS: Final = {"bf16-mixed": "bf16", "fp16-mixed": "fp16", "fp32": "no", "fp8-mixed": "fp8"}
PREFIX: Final = "parallelism_config.parallelism_config_"


def settings(job: Job, plan: Plan) -> Settings:
    """Every key of the configuration file, dotted; Accelerate's meshes are those of FSDP 2."""
    nodes = job.devices // job.node_devices
    sharded = plan.shard_group if plan.zero else 1
    ranks = plan.dp * plan.cp_ring * plan.cp_head
    values: dict[str, Value] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP" if plan.zero else "MULTI_GPU",
        "mixed_precision": PRECISIONS.get(job.precision.name, "bf16"),
        "num_machines": nodes,
        "num_processes": job.devices,
    }
    sizes = {
        "tp_size": plan.tp,
        "cp_size": plan.cp_ring,
        "dp_replicate_size": ranks // sharded if plan.zero else plan.dp,
        "dp_shard_size": max(sharded // plan.cp_ring, 1),
    }
    values |= {PREFIX + name: size for name, size in sizes.items()}
    if plan.zero:
        values |= {
            "fsdp_config.fsdp_version": 2,
            "fsdp_config.fsdp_reshard_after_forward": plan.zero == 3,
            "fsdp_config.fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_config.fsdp_activation_checkpointing": plan.recompute == "full",
            "fsdp_config.fsdp_offload_params": plan.offload == "all",
        }
    return Settings(
        values,
        tuple(_unsaid(job, plan, sharded, prod(sizes.values()))),
        (
            f"your script takes {plan.micro_batch} sequences of {job.sequence} a rank and microbatch, "
            f"Accelerator(gradient_accumulation_steps={microbatches(plan)})",
            *stack_remark(job, STACKS, "Accelerate"),
        ),
    )


def _unsaid(job: Job, plan: Plan, sharded: int, ranks: int) -> list[str]:
    checks = {
        f"model {job.model.name}, sequence {job.sequence}, microbatch {plan.micro_batch}: in your script": True,
        f"a run of {run_steps(job, plan)} steps: your script counts them": job.tokens is not None,
        f"the degrees it knows make {ranks}, not {job.devices} processes: Accelerate refuses this file": (
            ranks != job.devices
        ),
        f"pipeline of {plan.pp} stages, schedule {plan.schedule}: Accelerate trains without pipelines": plan.pp > 1,
        f"expert degrees {plan.ep} x {plan.etp}: Accelerate spreads no experts": plan.ep * plan.etp > 1,
        f"ulysses {plan.cp_head}: only Accelerate's DeepSpeed backend exchanges heads": plan.cp_head > 1,
        "sequence parallelism over tensor ranks: the model's tp_plan decides": plan.sp,
        "zero 1: FSDP shards gradients, too": plan.zero == 1,
        f"states in groups of {sharded}: they must hold the context ranks": sharded % plan.cp_ring > 0
        and plan.zero > 0,
        "unsharded states with context parallelism: it is a part of FSDP 2": not plan.zero and plan.cp_ring > 1,
        f"recomputation {plan.recompute}: FSDP's checkpointing is of whole layers": plan.recompute == "selective",
        "recomputation: without FSDP the model's code switches it": plan.recompute != "none" and not plan.zero,
        f"{plan.full_layers} layers recomputed in full: all or none": plan.full_layers > 0,
        f"offload {plan.offload}: FSDP moves all states or none": plan.offload not in ("none", "all"),
        f"precision {job.precision.name}: no key selects it": job.precision.name not in PRECISIONS,
        f"optimizer {job.optimizer.name}: your script builds it": True,
        f"adapters of rank {job.adapter_rank}: your script adds them": job.frozen,
    }
    return [*(what for what, held in checks.items() if held), *frozen_parts(job)]
