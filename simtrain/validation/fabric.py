"""A cluster with the nodes and the network its published run states or measured."""

import re
from dataclasses import dataclass
from math import log2
from typing import Final

from simtrain.price.collectives import Kind, call_seconds, collective_seconds, group
from simtrain.price.kernels import memory_bound
from simtrain.price.network import network
from simtrain.price.profile import profile
from simtrain.spec.base import Evidence, Fact
from simtrain.spec.hardware import Checks, Cluster, Nic

_EACH: Final = re.compile(r"^(\d+) x (\d+) Gb(?:/s)?\b")
"""`4 x 200 Gb/s HDR InfiniBand per node`"""
_NODE: Final = re.compile(r"^(\d+) Gb/s a node")
_DEVICE: Final = re.compile(r"(\d+) Gb/s a GPU")
_MESSAGE: Final = 1e9
"""Bytes of the collectives measured bus bandwidths are taken to be of: the asymptote."""
_REPEATS: Final = 3
"""Calls a bandwidth is taken to be the mean of: the host compares the first before anything moves."""
_PASSES: Final[dict[Kind, float]] = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0}
_COPIES: Final[dict[Kind, float]] = {"all_reduce": 0.0, "all_gather": 2.0, "reduce_scatter": 2.0}
"""Times the message passes the memory beside: torch.distributed copies lists of tensors into and out of one buffer."""


@dataclass(frozen=True)
class Bandwidths:
    """Bus bandwidths (B/s) of large collectives over all devices of a run; None where it states none."""

    all_reduce: float | None = None
    all_gather: float | None = None
    reduce_scatter: float | None = None

    @property
    def stated(self) -> dict[Kind, float]:
        """Those that are."""
        return {kind: value for kind in _PASSES if (value := getattr(self, kind)) is not None}


@dataclass(frozen=True)
class State:
    """How a run's network was, by what its authors measured on it."""

    checked: bool = False
    """Whether ranks compared every collective call."""
    share: float = 1.0
    """Rate of the adapters over their line rate."""


def with_nodes_of(cluster: Cluster, gpus: int, gpus_per_node: int | None) -> Cluster:
    """The cluster with that many devices a node, each with its share of the adapters, where its run says so."""
    node = cluster.node
    if gpus_per_node is None or gpus_per_node == node.devices or gpus <= gpus_per_node:
        return cluster
    adapters = max(node.nic.count * gpus_per_node // node.devices, 1)
    smaller = node.model_copy(update={"devices": gpus_per_node, "nic": node.nic.model_copy(update={"count": adapters})})
    return cluster.model_copy(update={"node": smaller, "nodes": -(-gpus // gpus_per_node)})


def with_adapters_of(cluster: Cluster, words: str) -> Cluster:
    """The cluster with the adapters its run states in `words`."""
    stated = _adapters(words, cluster.node.devices)
    return cluster if stated is None else _with(cluster, stated)


def state(measured: Bandwidths, free: Bandwidths, compared: Bandwidths | None) -> State:
    """What explains the `measured` bandwidths: adapters as the law has them or slower, or compared calls.

    `free` and `compared` are the law's without and with compared calls; None: the source's launcher compares none.
    Compared calls take one time whatever they move, so they must be nearer to every measured bandwidth than free ones.
    """
    ratios = {kind: value / free.stated[kind] for kind, value in measured.stated.items()}
    if not ratios:
        return State()
    if compared is not None:
        off = {kind: log2(value / compared.stated[kind]) for kind, value in measured.stated.items()}
        if all(abs(off[kind]) < abs(log2(ratio)) for kind, ratio in ratios.items()):
            return State(checked=True)
    return State(share=min(2 ** (round(4 * log2(max(ratios.values()))) / 4), 1.0))


def with_checks(cluster: Cluster, checks: Checks) -> Cluster:
    """The cluster where ranks compare their calls."""
    return cluster.model_copy(update={"fabric": cluster.fabric.model_copy(update={"checks": checks})})


def in_state(cluster: Cluster, found: State, checks: Checks | None) -> Cluster:
    """The cluster as its run found it."""
    if found.checked and checks is not None:
        return with_checks(cluster, checks)
    if found.share == 1.0:
        return cluster
    nic = cluster.node.nic
    rate: Fact[float] = Fact(
        value=nic.bandwidth.value * found.share,
        source="bandwidth of collectives measured on the run's own nodes",
        evidence=Evidence.MEASURED_ELSEWHERE,
    )
    return _with(cluster, Nic.model_construct(count=nic.count, bandwidth=rate))


def bus_bandwidths(cluster: Cluster, gpus: int) -> Bandwidths:
    """Of large collectives over all `gpus`, by our law: passes x (n - 1)/n x bytes / seconds.

    Where ranks compare calls, they do so while the call before is on its way.
    """
    node = cluster.node.devices
    priced = network(cluster, min(node * cluster.domain_nodes, gpus))
    device = profile(cluster.device)
    everyone = group(gpus, 1, priced.domain)
    called = float(call_seconds(priced, everyone))
    found: dict[str, float] = {}
    for kind, passes in _PASSES.items():
        moved = float(collective_seconds(priced, kind, _MESSAGE, everyone).seconds)
        moved += float(memory_bound(device, _COPIES[kind] * _MESSAGE).seconds)
        seconds = max(moved, called) + min(moved, called) / _REPEATS
        found[kind] = passes * (gpus - 1) / gpus * _MESSAGE / seconds
    return Bandwidths(**found)


def _adapters(words: str, devices: int) -> Nic | None:
    """Adapters of a node as a run words them; None where the count is not stated."""
    if match := _EACH.match(words):
        return _nic(int(match[1]), float(match[2]), words)
    if match := _NODE.match(words):
        return _nic(1, float(match[1]), words)
    if match := _DEVICE.search(words):
        return _nic(devices, float(match[1]), words)
    return None


def _nic(count: int, gigabits: float, words: str) -> Nic | None:
    if not count * gigabits:
        return None
    rate: Fact[float] = Fact(
        value=gigabits * 1e9 / 8, source=f"the run's own words: {words}", evidence=Evidence.DATA_SHEET
    )
    return Nic.model_construct(count=count, bandwidth=rate)


def _with(cluster: Cluster, nic: Nic) -> Cluster:
    return cluster.model_copy(update={"node": cluster.node.model_copy(update={"nic": nic})})
