"""From command-line arguments to a request."""

from pathlib import Path

from simtrain.errors import Problem, WrongInput
from simtrain.spec.request import Request


def request(model: str, cluster: str | None, *options: dict[str, str | None]) -> Request:
    """MODEL CLUSTER and options, or a job file that options override."""
    stated = Request(**{name: value for group in options for name, value in group.items()})
    if cluster is not None:
        return Request(model=model, cluster=cluster).overridden_by(stated)
    path = Path(model)
    if path.suffix != ".toml":
        rule = "stands alone: name a cluster after the model, or give a job file (.toml)"
        raise WrongInput([Problem("MODEL", model, rule, f"simtrain plan {model} dgx-h100")])
    return Request.read(path).overridden_by(stated)
