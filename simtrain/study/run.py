"""A whole training run: how many steps, how long, what it costs."""

from dataclasses import dataclass

from simtrain.spec.job import Job


@dataclass(frozen=True)
class Run:
    """Totals of training on the job's tokens."""

    steps: float
    seconds: float
    device_seconds: float
    cost: float | None
    """USD; None when the cluster has no price."""


def run(job: Job, global_batch: int, step_time: float) -> Run | None:
    """Totals at `step_time` seconds a step, without failures or restarts; None when the job states no tokens."""
    if job.tokens is None:
        return None
    count = steps(job, global_batch)
    seconds = count * step_time
    return Run(count, seconds, seconds * job.devices, cost(job, seconds))


def steps(job: Job, global_batch: int) -> float:
    """Steps of a run on the job's tokens; 1 when it states none."""
    return 1.0 if job.tokens is None else job.tokens / (global_batch * job.sequence)


def cost(job: Job, seconds: float) -> float | None:
    """USD for all devices over `seconds`; None when the cluster has no price."""
    price = job.cluster.price
    return None if price is None else price.value * job.devices * seconds
