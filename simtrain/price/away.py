"""Seconds of states that are off the device: brought in for passes, sent after them, and updated where they are."""

from dataclasses import dataclass

import numpy as np

from simtrain.laws.states import SHARDED_FROM, held_bytes
from simtrain.price.host import copy_seconds, drive_seconds, update_seconds
from simtrain.spec.job import Job
from simtrain.spec.placement import NVME, State
from simtrain.spec.plan import PlanTable
from simtrain.workload.strategies.offload import leaves, place, updated_away
from simtrain.workload.strategies.pipeline import Stages
from simtrain.workload.strategies.sharding import Holding, gradient_bytes, updated, wire_bytes


@dataclass(frozen=True)
class Moved:
    """Seconds that one microbatch's states take of a device's link and of its drives, shape (representatives, rows)."""

    weights_link: Stages
    """Of every pass."""
    weights_drives: Stages
    gradients_link: Stages
    """Of the backward pass."""
    gradients_drives: Stages

    @property
    def weights(self) -> Stages:
        """Until they are in: drives read while the link carries."""
        return np.maximum(self.weights_link, self.weights_drives)

    @property
    def gradients(self) -> Stages:
        """Until they are out."""
        return np.maximum(self.gradients_link, self.gradients_drives)

    def __add__(self, other: "Moved") -> "Moved":
        return Moved(**{name: part + getattr(other, name) for name, part in vars(self).items()})


def moved(job: Job, plans: PlanTable, kind: Holding) -> Moved:
    """Of parameters of one kind: each rank brings in its shard of the weights, and sends what it reduced."""
    weights = held_bytes(
        kind.parameters, job.precision.gathered_weight_bytes, plans.zero, SHARDED_FROM["weights"], kind.shards
    ) * leaves(plans, "weights")
    sent, summed = (
        held_bytes(kind.trained, width, plans.zero, SHARDED_FROM["gradients"], kind.shards) * leaves(plans, "gradients")
        for width in (wire_bytes(job), gradient_bytes(job))
    )
    on_drives = summed * (place(plans, "gradients") == NVME)
    return Moved(
        weights_link=copy_seconds(job, weights),
        weights_drives=drive_seconds(job, 0 * weights, weights * (place(plans, "weights") == NVME)),
        gradients_link=copy_seconds(job, sent),
        gradients_drives=drive_seconds(job, on_drives, on_drives),
    )


def update(job: Job, plans: PlanTable, kind: Holding, on_device: Stages) -> Stages:
    """The optimizer's update where moments and master weights are: chunk after chunk is read, updated and written, so
    the slowest of these says how long it takes (ZeRO-Infinity, arXiv 2104.07857, its overlap; recalled).

    `on_device`: seconds of the device's own. Processors take in gradients the device holds before they begin, and give
    it its new weights once they are done; a device's own update has what is away come and go beside it.
    """
    share = updated(job, plans, kind)
    widths: dict[State, float] = {
        "weights": job.precision.gathered_weight_bytes,
        "gradients": gradient_bytes(job),
        "master": job.precision.master_bytes,
        "moments": job.optimizer.moment_bytes,
    }
    sizes = {state: share * width for state, width in widths.items()}

    def total(read: tuple[State, ...], *, on_drives: bool) -> Stages:
        there = {state: (place(plans, state) == NVME) if on_drives else leaves(plans, state) for state in read}
        return np.asarray(sum((there[state] * sizes[state] for state in read), np.zeros(len(plans))))

    kept: tuple[State, ...] = ("master", "moments")
    drives = drive_seconds(job, total((*kept, "weights"), on_drives=True), total((*kept, "gradients"), on_drives=True))
    taken_in = copy_seconds(job, sizes["gradients"] * ~leaves(plans, "gradients"))
    given_back = copy_seconds(job, sizes["weights"] * ~leaves(plans, "weights"))
    by_processors = np.maximum(update_seconds(job.node_devices, share), drives) + taken_in + given_back
    to_device = copy_seconds(job, total((*kept, "gradients"), on_drives=False))
    from_device = copy_seconds(job, total((*kept, "weights"), on_drives=False))
    by_device = np.maximum.reduce([on_device, to_device, from_device, drives])
    return np.where(updated_away(job, plans), by_processors, by_device)
