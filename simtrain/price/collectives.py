"""Seconds of collectives on a network: measured curves inside a domain, the tuner's law elsewhere."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simtrain.laws.collectives import checked_call
from simtrain.price.network import Curve, Network, network
from simtrain.price.timed import Timed
from simtrain.price.tuner import KINDS, Kind, law_seconds

__all__ = ["KINDS", "Group", "Kind", "Network", "collective_seconds", "group", "network"]

Array = NDArray[np.float64]
EMPTY: Final = 1.0
"""Bytes of a message that takes latency only."""


@dataclass(frozen=True)
class Group:
    """Ranks that communicate: how many, and how many of them lie in one scale-up domain. Shapes broadcast."""

    members: Array
    local: Array


def group(degree: ArrayLike, stride: ArrayLike, domain: int) -> Group:
    """Groups of `degree` ranks `stride` apart, on domains of `domain` ranks each.

    `local` is domain // stride, between 1 and the degree; where that does not divide evenly, the largest share that
    every group of the mesh has at least.
    """
    members, apart = np.broadcast_arrays(np.asarray(degree).astype(np.int64), np.asarray(stride).astype(np.int64))
    shared = np.gcd(domain, members * apart)
    local = np.gcd(np.maximum(shared // apart, 1), members)
    return Group(members.astype(float), local.astype(float))


def collective_seconds(network: Network, kind: Kind, size: ArrayLike, group: Group) -> Timed:
    """Time one collective of `size` bytes (B) in each group; arguments broadcast.

    `size` is the whole message: the gathered total of all_gather and reduce_scatter, what a rank holds for
    all_to_all, what is sent for point_to_point. Groups of one member and empty messages cost nothing. Inside a domain
    measured curves are interpolated in log size, log members and log time, and beyond their edges continued by the
    law scaled to the edge.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a collective; known: {', '.join(KINDS)}")
    sizes, members, local = np.broadcast_arrays(
        np.asarray(size, float), np.asarray(group.members, float), np.asarray(group.local, float)
    )
    shape = sizes.shape
    sizes, members, local = sizes.ravel(), members.ravel(), local.ravel()
    busy = (members > 1) & (sizes > 0)
    if busy.all():
        seconds, measured = _priced(network, kind, sizes, members, local)
    else:
        seconds, measured = np.zeros(sizes.shape), np.zeros(sizes.shape)
        seconds[busy], measured[busy] = _priced(network, kind, sizes[busy], members[busy], local[busy])
    return Timed(seconds.reshape(shape), measured.reshape(shape))


def call_seconds(network: Network, group: Group) -> Array:
    """Host seconds in which the ranks of each group compare one call, where they do."""
    return checked_call(group.members, group.local, *network.checks)


def _priced(network: Network, kind: Kind, size: Array, members: Array, local: Array) -> tuple[Array, Array]:
    seconds, measured = _as_known(network, kind, size, members, local)
    if network.latency != 1.0:
        empty, _ = _as_known(network, kind, np.full(size.shape, EMPTY), members, local)
        seconds = seconds - (1 - network.latency) * np.minimum(empty, seconds)
    return seconds, measured


def _as_known(network: Network, kind: Kind, size: Array, members: Array, local: Array) -> tuple[Array, Array]:
    curve = network.curves.get(kind)
    inside = local >= members
    if curve is None or not inside.any():
        return law_seconds(network, kind, size, members, local), np.zeros(size.shape)
    if inside.all():
        return _continued(network, kind, curve, size, members)
    seconds, measured = np.empty(size.shape), np.zeros(size.shape)
    outside = ~inside
    seconds[inside], measured[inside] = _continued(network, kind, curve, size[inside], members[inside])
    seconds[outside] = law_seconds(network, kind, size[outside], members[outside], local[outside])
    return seconds, measured


def _continued(network: Network, kind: Kind, curve: Curve, size: Array, members: Array) -> tuple[Array, Array]:
    """Interpolated seconds, times law(asked) / law(nearest edge) beyond the curve; and 1 inside it, 0 beyond."""
    row, column = np.log2(members), np.log(size)
    at_row = np.clip(row, curve.members[0], curve.members[-1])
    at_column = np.clip(column, curve.sizes[0], curve.sizes[-1])
    seconds = _interpolated(curve, at_row, at_column)
    beyond = (at_row != row) | (at_column != column)
    if beyond.any():
        edge_members, edge_size = np.rint(np.exp2(at_row[beyond])), np.exp(at_column[beyond])
        asked = law_seconds(network, kind, size[beyond], members[beyond], members[beyond])
        seconds[beyond] *= asked / law_seconds(network, kind, edge_size, edge_members, edge_members)
    return seconds, np.where(beyond, 0.0, 1.0)


def _interpolated(curve: Curve, row: Array, column: Array) -> Array:
    """Bilinear in log members and log size, exact at the measured points."""
    i, above, u = _cell(curve.members, row)
    j, right, v = _cell(curve.sizes, column)
    table = curve.seconds
    low = (1 - v) * table[i, j] + v * table[i, right]
    high = (1 - v) * table[above, j] + v * table[above, right]
    return np.exp((1 - u) * low + u * high)


def _cell(axis: Array, at: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Points around a place on an axis, and how far between them it lies; on an axis of one point, that one."""
    index = np.clip(np.searchsorted(axis, at, side="right") - 1, 0, max(len(axis) - 2, 0))
    above = np.minimum(index + 1, len(axis) - 1)
    width = axis[above] - axis[index]
    return index, above, np.divide(at - axis[index], width, out=np.zeros(len(at)), where=width > 0)
