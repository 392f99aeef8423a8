"""Jobs the tests share."""

from dataclasses import replace

from simtrain.estimate import machine
from simtrain.price.blocks import Machine
from simtrain.spec.calibration import DeviceRates
from simtrain.spec.job import Job
from simtrain.spec.request import Request


def job(model: str = "llama-3-8b", cluster: str = "dgx-h100", gpus: int = 16, **fields: object) -> Job:
    """A job from the shipped catalog; fields as on the command line."""
    stated = {"seq": "4096", "global_batch": "64"} | {name: str(value) for name, value in fields.items()}
    return Request(model=model, cluster=cluster, gpus=str(gpus), **stated).job()


def uncalibrated(asked: Job) -> Machine:
    """The machine of a job at the rates of its tables, so that prices can be checked against them."""
    return replace(machine(asked), rates=DeviceRates())
