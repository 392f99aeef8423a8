"""Seconds of what the host does for a device: copies over its link, and updates by its processors."""

import functools
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

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


def update_seconds(devices: int, count: Array) -> Array:
    """Updating `count` parameters for each of `devices` in their node's memory (s): they share its processors."""
    return count * devices / processor().update.value
