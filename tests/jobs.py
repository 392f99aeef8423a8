"""Jobs the tests share."""

from simtrain.spec.job import Job
from simtrain.spec.request import Request


def job(model: str = "llama-3-8b", cluster: str = "dgx-h100", gpus: int = 16, **fields: object) -> Job:
    """A job from the shipped catalog; fields as on the command line."""
    stated = {"seq": "4096", "global_batch": "64"} | {name: str(value) for name, value in fields.items()}
    return Request(model=model, cluster=cluster, gpus=str(gpus), **stated).job()
