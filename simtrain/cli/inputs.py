"""From command-line arguments to a request."""

from pathlib import Path

from simtrain.errors import WrongInput
from simtrain.spec.request import Request


def request(model: str, cluster: str | None, *options: dict[str, str | None]) -> Request:
    """MODEL CLUSTER and options, or a job file that options override."""
    stated = Request(**{name: value for group in options for name, value in group.items()})
    if cluster is not None or Path(model).suffix != ".toml":
        return Request(model=model, cluster=cluster).overridden_by(stated)
    try:
        return Request.read(Path(model)).overridden_by(stated)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *stated.problems()]) from None
