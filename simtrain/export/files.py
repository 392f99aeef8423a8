"""The files that hand a plan over: the trainer's configuration, how to launch it, and what it cannot be told."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import tomli_w

from simtrain.export import accelerate, deepspeed, megatron_lm, torchtitan
from simtrain.export.memory import fixed
from simtrain.export.settings import Settings, Value, nested
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.plan import Plan

TRAINERS: Final[dict[str, Callable[[Job, Plan], Settings]]] = {
    trainer.NAME: trainer.settings for trainer in (megatron_lm, torchtitan, deepspeed, accelerate)
}
RENDEZVOUS: Final = '--rdzv-id "${JOB_ID:-simtrain}" --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:29500"'
MEMORY: Final = (
    "the memory plan: which tensors are made again, moved or narrowed, stage by stage (see the plan file); "
    "without it everything is kept, which takes more memory than predicted"
)
CLOCKS: Final = (
    "the clocks: a runtime sets them (simtrain energy --csv lists them); without it devices run at the largest, as "
    "predicted"
)
DATA: Final = "--mock-data --tokenizer-type NullTokenizer"
"""What stands for data until the user names theirs (Megatron-LM)."""
SCHEDULE: Final = "--lr 3e-4 --lr-decay-style constant"
LENGTH: Final = "--train-iters 20"
"""What stands for the learning rate, and for the run where the job states no tokens."""


def trainer_of(stack: str) -> str:
    """The trainer a stack describes; Megatron-LM where it is none of TRAINERS."""
    for trainer in (megatron_lm, torchtitan, deepspeed, accelerate):
        if stack in trainer.STACKS:
            return str(trainer.NAME)
    return megatron_lm.NAME


def settings(trainer: str, job: Job, plan: Plan) -> Settings:
    """A plan in the terms of one of TRAINERS."""
    if plan.memory is None or plan.memory == MemoryPlan():
        return TRAINERS[trainer](job, plan)
    alike = fixed(job, plan)
    told = TRAINERS[trainer](job, alike or plan)
    return told if alike or told.memory else replace(told, lost=(*told.lost, MEMORY))


def arguments(told: Settings) -> list[str]:
    """Flags as they stand on a command line, one an entry."""
    return [name if value is True else f"{name} {value}" for name, value in told.values.items()]


def changes(trainer: str, job: Job, plan: Plan, better: Plan) -> dict[str, list[Value | None]]:
    """Settings in which two plans differ: of the first and of the other, None where there is none."""
    own, other = settings(trainer, job, plan).values, settings(trainer, job, better).values
    return {name: [own.get(name), other.get(name)] for name in own | other if own.get(name) != other.get(name)}


def files(trainer: str, job: Job, plan: Plan, lost: tuple[str, ...] = ()) -> dict[str, str]:
    """Text by file name; `lost`: what besides the plan no trainer can be told."""
    told = settings(trainer, job, plan)
    told = replace(told, lost=(*told.lost, *lost))
    configuration, program = _configuration(trainer, told, plan)
    nodes, each = job.devices // job.node_devices, job.node_devices
    serial = trainer == "megatron-lm" and "--use-megatron-fsdp" not in told.values
    run = f"{_launcher(trainer, nodes, each, serial)} \\\n    {program}"
    return {
        **configuration,
        "launch.sh": _script(nodes, run),
        "launch.slurm": _slurm(trainer, nodes, each),
        "NOTES.md": _notes(trainer, job, told),
    }


def _configuration(trainer: str, told: Settings, plan: Plan) -> tuple[dict[str, str], str]:
    """The trainer's own files, and the program with its arguments."""
    if trainer == "megatron-lm":
        text = "\n".join(arguments(told)) + "\n"
        return {"arguments.txt": text}, " ".join(
            (
                '"${MEGATRON:?the folder of Megatron-LM}/pretrain_gpt.py" $(cat arguments.txt)',
                f"${{DATA:-{DATA}}}",
                f"${{SCHEDULE:-{SCHEDULE if '--train-samples' in told.values else f'{SCHEDULE} {LENGTH}'}}}",
            )
        )
    if trainer == "torchtitan":
        return {
            "torchtitan.toml": tomli_w.dumps(nested(told.values))
        }, "-m torchtitan.train --job.config_file torchtitan.toml"
    text = json.dumps(nested(told.values), indent=2) + "\n"
    script = '"${TRAIN:?your training script}"'
    if trainer == "deepspeed":
        return {"ds_config.json": text}, f"{script} --deepspeed ds_config.json"
    return {"accelerate.json": text}, script


def _script(nodes: int, run: str) -> str:
    return f"""#!/bin/bash
# On every node: HEAD=<first node> NODE_RANK=<0..{nodes - 1}> bash launch.sh
set -euf
cd "$(dirname "$0")"
{run} "$@"
"""


def _launcher(trainer: str, nodes: int, each: int, serial: bool) -> str:
    """`serial`: kernels start in the order they were issued; Megatron-LM wants it, but for its FSDP."""
    if trainer == "accelerate":
        rank = '--machine_rank "${NODE_RANK:-0}" --main_process_ip "${HEAD:-localhost}" --main_process_port 29500'
        return f"accelerate launch --config_file accelerate.json {rank}"
    device = "CUDA_DEVICE_MAX_CONNECTIONS=1 " if serial else ""
    return f'{device}torchrun --nnodes {nodes} --nproc-per-node {each} --node-rank "${{NODE_RANK:-0}}" {RENDEZVOUS}'


def _slurm(trainer: str, nodes: int, each: int) -> str:
    return f"""#!/bin/bash
#SBATCH --job-name={trainer}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={each}
#SBATCH --exclusive
set -eu
export HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export JOB_ID=$SLURM_JOB_ID
srun bash -c 'NODE_RANK=$SLURM_NODEID bash launch.sh "$@"' launch "$@"
"""


def _notes(trainer: str, job: Job, told: Settings) -> str:
    """What the trainer cannot be told, never empty."""
    lost = told.lost or ("nothing: every part of the plan has a setting",)
    parts = [
        f"# {job.model.name} on {job.devices} x {job.cluster.device.title}, for {trainer}",
        "",
        "Not expressed:",
        "",
    ]
    parts += [f"- {what}" for what in lost]
    if told.remarks:
        parts += ["", "To know:", "", *(f"- {what}" for what in told.remarks)]
    return "\n".join(parts) + "\n"
