"""From command-line arguments to a request."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from simtrain import units
from simtrain.errors import Problem, WrongInput, nearest
from simtrain.price import host
from simtrain.spec.base import Evidence, Fact
from simtrain.spec.calibration import own_scale, own_scales
from simtrain.spec.job import Job
from simtrain.spec.memory_policy import ACTIONS, Action
from simtrain.spec.request import Request

Value = TypeVar("Value")


def request(model: str | None, cluster: str | None, *options: dict[str, str | None]) -> Request:
    """MODEL CLUSTER and options, or a job file that options override."""
    stated = Request(**{name: value for group in options for name, value in group.items()})
    if model is None or cluster is not None or Path(model).suffix != ".toml":
        return Request(model=model, cluster=cluster).overridden_by(stated)
    try:
        return Request.read(Path(model)).overridden_by(stated)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *stated.problems()]) from None


def unreadable(path: Path | None) -> list[Problem]:
    """What is wrong with a calibration file, whatever the job."""
    try:
        if path is not None:
            own_scales(path)
    except WrongInput as wrong:
        return list(wrong.problems)
    return []


def actions(text: str | None, problems: list[Problem]) -> tuple[Action, ...]:
    """What memory plans may do; problems are added to those there are."""
    found: list[Action] = []
    for part in [] if text is None else text.split(","):
        action = next((known for known in ACTIONS if known == part.strip()), None)
        if action is None:
            problems.append(Problem("--allow", part, "is not an action", nearest(part, ACTIONS)))
        elif action not in found:
            found.append(action)
    return tuple(found)


def without_drives(job: Job, allowed: Sequence[Action]) -> list[Problem]:
    """Whether drives are asked for that no node has."""
    problem = host.without_drives(job.cluster.node) if "nvme" in allowed else None
    return [] if problem is None else [replace(problem, where="--allow", value="nvme")]


def memory_size(text: str | None, problems: list[Problem]) -> float | None:
    """A size in bytes; problems are added to those there are."""
    if text is None:
        return None
    try:
        size = units.parse(text, "B")
    except ValueError as error:
        problems.append(Problem("--memory-cap", text, str(error), "write it like 60GiB"))
        return None
    if size <= 0:
        problems.append(Problem("--memory-cap", text, "must be positive", "write it like 60GiB"))
        return None
    return size


def capped(job: Job, cap: float | None) -> Job:
    """The job on devices of no more memory than `cap`, in bytes."""
    if cap is None or cap >= job.cluster.device.memory.value:
        return job
    memory: Fact[float] = Fact(value=cap, source="--memory-cap", evidence=Evidence.ASSUMED)
    device = job.cluster.device.model_copy(update={"memory": memory})
    return job.model_copy(update={"cluster": job.cluster.model_copy(update={"device": device})})


def calibrated(job: Job, path: Path | None) -> Job:
    """The job with the user's own calibration of its stack and device, if a file is given."""
    if path is None:
        return job
    return job.model_copy(update={"own": own_scale(path, job.stack.name, job.cluster.device.name)})


def tried(problems: list[Problem], read: Callable[..., Value], *arguments: Any) -> Value | None:
    """What is read of these arguments; None where one is, or where it is wrong, which is added to `problems`."""
    if arguments[0] is None:
        return None
    try:
        return read(*arguments)
    except WrongInput as wrong:
        problems.extend(wrong.problems)
        return None
