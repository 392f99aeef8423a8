"""Seconds of what the host does for a device: copies over its link, and updates by its processors."""

import functools
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simtrain.errors import Problem, WrongInput
from simtrain.spec.base import Fact, Spec, checked
from simtrain.spec.hardware import Node
from simtrain.spec.library import path_of, read_toml

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


def copy_seconds(node: Node, size: Array) -> Array:
    """Moving `size` bytes between a device and its host, one way (s); every device has a link of its own."""
    return size / node.host.device_bandwidth.value


def away_seconds(node: Node, tier: Literal["cpu", "nvme"]) -> tuple[float, float]:
    """Seconds a byte from a device to a tier, and back; the devices of a node share its drives.

    Raises WrongInput where the node states no drives.
    """
    link = float(copy_seconds(node, np.ones(1))[0])
    if tier == "cpu":
        return link, link
    write, read = node.host.nvme_write, node.host.nvme_read
    if write is None or read is None:
        raise WrongInput([Problem("tier", tier, f"{node.title} states no drives", "use cpu, or state nvme_read")])
    return max(link, node.devices / write.value), max(link, node.devices / read.value)


def update_seconds(devices: int, count: Array) -> Array:
    """Updating `count` parameters for each of `devices` in their node's memory (s): they share its processors."""
    return count * devices / processor().update.value
