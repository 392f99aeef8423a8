"""Seconds of what the host does for a device: copies over its link and to drives, and updates by its processors."""

import functools
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simtrain.errors import Problem, WrongInput
from simtrain.spec.base import Fact, Spec, checked
from simtrain.spec.hardware import Node
from simtrain.spec.job import Job
from simtrain.spec.library import path_of, read_toml
from simtrain.spec.memory_plan import Tier

Array = NDArray[np.float64]


class Processor(Spec):
    """The processors of a node."""

    title: str
    update: Fact[Annotated[float, Field(gt=0)]]
    """Parameters a second that they update together."""


@functools.cache
def processor() -> Processor:
    """The one whose rate is known (profiles/processors/adam.toml, recalled): it stands for every host."""
    path = path_of("profiles", "processors", "adam.toml")
    return checked(Processor, read_toml(path), str(path))


@dataclass(frozen=True)
class Way:
    """One thing between a device and where its data waits: its link, whose directions do not meet, or its share of the
    node's drives, which either read or write."""

    out: float
    """Seconds a byte off the device."""
    back: float


def link(job: Job) -> Way:
    """A device's link to its host: its own, and no more than its share of what all links of the node carry at once."""
    host = job.cluster.node.host
    rate: float = host.device_bandwidth.value
    if host.shared_bandwidth is not None:
        rate = min(rate, host.shared_bandwidth.value / job.node_devices)
    return Way(1 / rate, 1 / rate)


def drives(job: Job) -> Way:
    """A device's share of its node's drives, which all devices of the job use alike; WrongInput where none are
    stated."""
    problem = without_drives(job.cluster.node)
    if problem is not None:
        raise WrongInput([problem])
    host = job.cluster.node.host
    assert host.nvme_write is not None
    assert host.nvme_read is not None
    return Way(job.node_devices / host.nvme_write.value, job.node_devices / host.nvme_read.value)


def ways(job: Job, tier: Tier) -> tuple[Way, ...]:
    """What everything that waits there passes; WrongInput where a node states no drives."""
    return (link(job),) if tier == "cpu" else (link(job), drives(job))


def without_drives(node: Node) -> Problem | None:
    """What is wrong with drives being asked for, if anything."""
    host = node.host
    facts = {name: getattr(host, name) for name in ("nvme", "nvme_read", "nvme_write")}
    lacking = [name for name, fact in facts.items() if fact is None]
    if not lacking:
        return None
    hint = f"use cpu, or state {', '.join(lacking)} in its file"
    return Problem("tier", "nvme", f"{node.title} states no drives", hint)


def copy_seconds(job: Job, size: Array) -> Array:
    """Moving `size` bytes between a device and its host, one way (s)."""
    return size * link(job).out


def drive_seconds(job: Job, written: Array, read: Array) -> Array:
    """Writing and reading so many bytes of a device (s), one after the other; nothing where there are no drives."""
    if not job.cluster.node.host.has_drives:
        return np.zeros(np.broadcast_shapes(np.shape(written), np.shape(read)))
    way = drives(job)
    return np.asarray(written * way.out + read * way.back)


def update_seconds(devices: int, count: Array) -> Array:
    """Updating `count` parameters for each of `devices` in their node's memory (s): they share its processors."""
    return count * devices / processor().update.value
