"""What would make a job fit that does not. Every hint was tried: the changed job has a plan that fits."""

from collections.abc import Iterator
from typing import Any, Final

from simtrain.estimate import estimate, machine
from simtrain.search.search import Search
from simtrain.search.space import Space
from simtrain.spec import load
from simtrain.spec.job import Job
from simtrain.spec.library import names
from simtrain.workload.parameters import total
from simtrain.workload.strategies.sharding import gradient_bytes

LARGEST_GROWTH: Final = 64
SHORTEST_SEQUENCE: Final = 256


def advice(result: Search) -> list[str]:
    """Ways out when nothing fits: more devices, larger devices, shorter sequences, the least change of each.

    When not even a plan is legal: a batch of one sequence a device.
    """
    if not result.tally.legal:
        batches = [_changed(result.job, global_batch=(result.job.devices,))]
        return [f"a global batch of {job.devices}: one sequence a device" for job in _first(iter(batches))]
    job, need = result.job, float(result.closest.memory.total[0])
    hints = [f"{more.devices} devices" for more in _first(_with_more_devices(job))]
    devices = map(load.device, names(load.DEVICES))
    larger = sorted((device.memory.value, device.title) for device in devices if device.memory.value >= need)
    if larger:
        hints.append(f"devices with at least as much memory as {larger[0][1]}")
    hints += [f"a sequence of {shorter.sequence} positions" for shorter in _first(_with_shorter_sequences(job))]
    return hints


def fits(job: Job) -> bool:
    """Whether any legal plan of the job fits its devices."""
    if not job.stack.offload and _least_states(job) > job.cluster.device.memory.value:
        return False
    on = machine(job)
    return any(len(plans) and bool(estimate(job, plans, on).fits.any()) for plans, _ in Space(job).blocks())


def _least_states(job: Job) -> float:
    """Bytes of weights, gradients and optimizer states a device holds when all are spread evenly: no plan has less."""
    precision = job.precision
    weights = 0 if job.stack.single_copy.value else precision.weight_bytes
    each = weights + gradient_bytes(job) + precision.master_bytes + job.optimizer.moment_bytes
    return total(job.model) * each / job.devices


def _first(jobs: Iterator[Job]) -> list[Job]:
    """The first of them that fits, if any."""
    return next(([job] for job in jobs if fits(job)), [])


def _with_more_devices(job: Job) -> Iterator[Job]:
    growth = 2
    while growth <= LARGEST_GROWTH:
        devices = job.devices * growth
        nodes = -(-devices // job.cluster.node.devices)
        yield _changed(job, devices=devices, cluster=job.cluster.model_copy(update={"nodes": nodes}))
        growth *= 2


def _with_shorter_sequences(job: Job) -> Iterator[Job]:
    sequence = job.sequence // 2
    while sequence >= SHORTEST_SEQUENCE:
        yield _changed(job, sequence=sequence)
        sequence //= 2


def _changed(job: Job, **fields: Any) -> Job:
    return job.model_copy(update=fields)
