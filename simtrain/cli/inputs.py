"""From command-line arguments to a request."""

from pathlib import Path

from simtrain.errors import Problem, WrongInput
from simtrain.spec.calibration import own_scale, own_scales
from simtrain.spec.job import Job
from simtrain.spec.request import Request


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


def calibrated(job: Job, path: Path | None) -> Job:
    """The job with the user's own calibration of its stack and device, if a file is given."""
    if path is None:
        return job
    return job.model_copy(update={"own": own_scale(path, job.stack.name, job.cluster.device.name)})
