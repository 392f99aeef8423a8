"""A plan in a trainer's own terms, and back."""

from dataclasses import dataclass, field
from typing import Any

from simtrain.spec.job import Job
from simtrain.spec.model import Model
from simtrain.spec.plan import Plan

Value = str | int | float | bool | list[Any] | dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What a trainer is told, and what it cannot be told."""

    values: dict[str, Value]
    """By flag or dotted key, in the order they are written."""
    lost: tuple[str, ...]
    """Parts of job or plan that these settings do not express."""
    remarks: tuple[str, ...] = ()
    """What else whoever runs it should know."""
    memory: bool = False
    """Whether they say what a memory plan does."""


@dataclass(frozen=True)
class Imported:
    """What a trainer's configuration says of job and plan; None or absent where it is silent."""

    job: dict[str, str] = field(default_factory=dict)
    """Fields of a Request."""
    layout: dict[str, Any] = field(default_factory=dict)
    """Fields of a Layout, as text."""
    model: Model | None = None
    replicas: int = 1
    """Copies of the sharded states: the shard group is what they leave of the data-parallel ranks."""
    data_ranks: int | None = None
    """Data-parallel ranks, where they are stated."""
    unknown: tuple[str, ...] = ()
    """Settings that are not understood: they change nothing in the prediction."""
    without_effect: tuple[str, ...] = ()
    """Settings known to change nothing that is predicted."""
    remarks: tuple[str, ...] = ()


def microbatches(plan: Plan) -> int:
    """Microbatches a pipeline runs in a step."""
    return plan.global_batch // (plan.dp * plan.micro_batch)


def run_steps(job: Job, plan: Plan) -> int | None:
    """Steps of the whole run; None where the job states no tokens."""
    return None if job.tokens is None else -(-job.tokens // (plan.global_batch * job.sequence))


def frozen_parts(job: Job) -> list[str]:
    """What of a job no trainer's settings freeze."""
    return [f"{share:.0%} of {part} frozen: your script does it" for part, share in job.freeze.items() if share]


def stack_remark(job: Job, stacks: tuple[str, ...], trainer: str) -> tuple[str, ...]:
    """A warning where the plan was predicted for another trainer."""
    if job.stack.name in stacks:
        return ()
    return (f"the plan was predicted for {job.stack.name}, not for {trainer}: plan again with --stack {stacks[0]}",)


def flat(data: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested tables as one, keys dotted."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def nested(values: dict[str, Value]) -> dict[str, Any]:
    """Dotted keys as nested tables."""
    data: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        table = data
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
    return data
