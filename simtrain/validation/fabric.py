"""A cluster with the nodes and the network its published run states or measured."""

import re
from typing import Final

import numpy as np

from simtrain.price.collectives import collective_seconds, group
from simtrain.price.network import network
from simtrain.spec.base import Evidence, Fact
from simtrain.spec.hardware import Cluster, Nic

_EACH: Final = re.compile(r"^(\d+) x (\d+) Gb(?:/s)?\b")
"""`4 x 200 Gb/s HDR InfiniBand per node`"""
_NODE: Final = re.compile(r"^(\d+) Gb/s a node")
_DEVICE: Final = re.compile(r"(\d+) Gb/s a GPU")
_MESSAGE: Final = 1e9
"""Bytes of the all-reduce a measured bus bandwidth is taken to be of: the asymptote."""


def with_nodes_of(cluster: Cluster, gpus: int, gpus_per_node: int | None) -> Cluster:
    """The cluster with that many devices a node, each with its share of the adapters, where its run says so."""
    node = cluster.node
    if gpus_per_node is None or gpus_per_node == node.devices or gpus <= gpus_per_node:
        return cluster
    adapters = max(node.nic.count * gpus_per_node // node.devices, 1)
    smaller = node.model_copy(update={"devices": gpus_per_node, "nic": node.nic.model_copy(update={"count": adapters})})
    return cluster.model_copy(update={"node": smaller, "nodes": -(-gpus // gpus_per_node)})


def on_its_network(cluster: Cluster, gpus: int, words: str, measured: float | None) -> Cluster:
    """The cluster with the adapters its run states in `words`, slowed to the all-reduce bandwidth it `measured`.

    `measured`: bus bandwidth (B/s) of an all-reduce over all devices of the run; the adapters' rate is scaled so that
    the law gives that bandwidth, but never above their line rate.
    """
    stated = _adapters(words, cluster.node.devices)
    if stated is not None:
        cluster = _with(cluster, stated)
    if measured is None or gpus <= cluster.node.devices * cluster.domain_nodes:
        return cluster
    nic = cluster.node.nic
    share = min(measured / bus_bandwidth(cluster, gpus), 1.0)
    if share == 1.0:
        return cluster
    rate: Fact[float] = Fact(
        value=nic.bandwidth.value * share,
        source="all-reduce bandwidth measured on the run's own nodes",
        evidence=Evidence.MEASURED_ELSEWHERE,
    )
    return _with(cluster, Nic.model_construct(count=nic.count, bandwidth=rate))


def bus_bandwidth(cluster: Cluster, gpus: int) -> float:
    """Bus bandwidth (B/s) of a large all-reduce over all `gpus`, by our law: 2 (n - 1)/n x bytes / seconds."""
    node = cluster.node.devices
    priced = network(cluster, min(node * cluster.domain_nodes, gpus))
    seconds = collective_seconds(priced, "all_reduce", _MESSAGE, group(gpus, 1, priced.domain)).seconds
    return float(2 * (gpus - 1) / gpus * _MESSAGE / np.asarray(seconds))


def _adapters(words: str, devices: int) -> Nic | None:
    """Adapters of a node as a run words them; None where the count is not stated."""
    if match := _EACH.match(words):
        return _nic(int(match[1]), float(match[2]), words)
    if match := _NODE.match(words):
        return _nic(1, float(match[1]), words)
    if match := _DEVICE.search(words):
        return _nic(devices, float(match[1]), words)
    return None


def _nic(count: int, gigabits: float, words: str) -> Nic:
    rate: Fact[float] = Fact(
        value=gigabits * 1e9 / 8, source=f"the run's own words: {words}", evidence=Evidence.DATA_SHEET
    )
    return Nic.model_construct(count=count, bandwidth=rate)


def _with(cluster: Cluster, nic: Nic) -> Cluster:
    return cluster.model_copy(update={"node": cluster.node.model_copy(update={"nic": nic})})
