"""A cluster as collectives see it."""

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.price.profile import profile_file
from simtrain.price.tuning import Architecture, Link, measured, tuning
from simtrain.spec.hardware import Cluster, Scaleup
from simtrain.spec.library import path_of

Array = NDArray[np.float64]
_SAME_LINKS = 0.05
_FILE_NAMES = {"alltoall": "all_to_all"}


@dataclass(frozen=True)
class Curve:
    """Measured seconds of one collective: log2 of members, log of bytes, log of seconds (members x bytes)."""

    members: Array
    sizes: Array
    seconds: Array


@dataclass(frozen=True)
class Network:
    """Links, adapters and measured curves. Bandwidths (B/s) and latencies (s) are per device and direction."""

    domain: int
    """Devices of the job in one scale-up domain."""
    link: Link
    architecture: Architecture
    rate: float
    """What a ring over all devices of a domain moves on those links (bus bandwidth)."""
    mesh: int
    """Peers a device's links are split over; 0: any pair has the full bandwidth."""
    multicast: bool
    adapter: float
    """A device's share of its node's adapters."""
    fabric_latency: float
    oversubscription: float
    pod_domains: float
    """Domains in a pod, infinite where the fabric is one."""
    rails: bool
    checks: tuple[float, float]
    """Host seconds of a collective call for every member inside the domain and across, where ranks compare calls."""
    curves: Mapping[str, Curve] = field(repr=False)
    """By collective; empty where nothing was measured on these links."""
    latency: float = 1.0
    """Share that is left of what an empty message takes: to ask what shorter latencies would be worth."""


def network(cluster: Cluster, domain: int, profile_folder: str | None = None) -> Network:
    """The network of a job with `domain` devices in each scale-up domain.

    `profile_folder` names the folder of profiles/devices whose curves may hold; None: the device's own. They hold
    only where kind, bandwidth and multicast of the links are those they were measured on.
    """
    node, scaleup, constants = cluster.node, cluster.node.scaleup, tuning()
    architecture = constants.architectures.get(cluster.device.architecture)
    if architecture is None or scaleup.kind not in architecture.rate:
        known = [f"{name}/{kind}" for name, entry in constants.architectures.items() for kind in entry.rate]
        asked = f"{cluster.device.architecture}/{scaleup.kind}"
        rule = "has no rate in profiles/collectives/nccl.toml"
        raise WrongInput([Problem(f"{cluster.name}.node.scaleup.kind", asked, rule, nearest(asked, known))])
    link = constants.links[scaleup.kind]
    domain_nodes = max(domain / node.devices, 1.0)
    pod, checks = cluster.fabric.nodes_per_pod, cluster.fabric.checks
    return Network(
        domain=domain,
        link=link,
        architecture=architecture,
        rate=scaleup.bandwidth.value * architecture.rate[scaleup.kind].value,
        mesh=node.devices - 1 if link.mesh and not scaleup.switched else 0,
        multicast=scaleup.multicast and architecture.switch is not None,
        adapter=node.nic.count * node.nic.bandwidth.value / node.devices,
        fabric_latency=cluster.fabric.latency.value,
        oversubscription=cluster.fabric.oversubscription.value,
        pod_domains=np.inf if pod is None else max(pod / domain_nodes, 1.0),
        rails=cluster.fabric.kind == "rail-optimised",
        checks=(checks.inside.value, checks.across.value) if checks else (0.0, 0.0),
        curves=_curves_of(scaleup, profile_folder or cluster.device.profile or cluster.device.name),
    )


def _curves_of(scaleup: Scaleup, folder: str) -> Mapping[str, Curve]:
    own = path_of("profiles", "devices", folder, "meta.toml")
    links = (
        profile_file(folder).links if Path(folder).is_absolute() and own.is_file() else measured().devices.get(folder)
    )
    if links is None or (links.kind, links.multicast) != (scaleup.kind, scaleup.multicast):
        return MappingProxyType({})
    if abs(scaleup.bandwidth.value / links.bandwidth - 1) > _SAME_LINKS:
        return MappingProxyType({})
    return _curves(folder)


@functools.cache
def _curves(folder: str) -> Mapping[str, Curve]:
    """Curves of one device: every collective over a full grid of members and bytes."""
    path = path_of("profiles", "devices", folder, "collective.csv")
    if not path.is_file():
        return MappingProxyType({})
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(r["collective"], int(r["gpus"]), int(r["bytes"]), float(r["time_s"])) for r in csv.DictReader(file)]
    curves = {}
    for name in {row[0] for row in rows}:
        cells = {(members, size): seconds for kind, members, size, seconds in rows if kind == name}
        members, sizes = sorted({key[0] for key in cells}), sorted({key[1] for key in cells})
        if len(cells) != len(members) * len(sizes):
            raise WrongInput([Problem(str(path), name, "must hold every size for every number of gpus")])
        seconds = np.array([[cells[m, s] for s in sizes] for m in members])
        curves[_FILE_NAMES.get(name, name)] = Curve(np.log2(members), np.log(sizes), np.log(seconds))
    return MappingProxyType(curves)
