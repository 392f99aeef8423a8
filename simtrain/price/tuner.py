"""The collective library's choice: the fastest legal algorithm and protocol, as NCCL's tuner picks it."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simtrain.laws import collectives as laws
from simtrain.price.network import Network
from simtrain.price.tuning import Tuning, tuning

Array = NDArray[np.float64]
Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point", "broadcast"]
KINDS: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point", "broadcast")
_LL, _LL128, _SIMPLE = range(3)


def law_seconds(network: Network, kind: Kind, size: Array, members: Array, local: Array) -> Array:
    """Seconds (s) of a collective of `size` bytes over `members` ranks (> 1), `local` of them in each domain.

    The three arrays have one shape (rows,). Rows inside one domain and rows across domains are priced apart.
    """
    seconds = np.empty(size.shape)
    inside = local >= members
    for rows, law in ((inside, _inside), (~inside, _across)):
        if rows.all():
            return law(network, kind, size, members, local)
        if rows.any():
            seconds[rows] = law(network, kind, size[rows], members[rows], local[rows])
    return seconds


def _scaleup_rate(network: Network, local: Array) -> Array:
    """Bus bandwidth of a ring over `local` devices of a domain; on a mesh, only links between them serve."""
    if not network.mesh:
        return np.full(local.shape, network.rate)
    return network.rate * np.clip((local - 1) / network.mesh, 1 / network.mesh, 1.0)


def _inside(network: Network, kind: Kind, size: Array, members: Array, local: Array) -> Array:
    constants, link = tuning(), network.link
    base, factors, slow = constants.base, constants.factors, network.architecture.latency.value
    rate = _scaleup_rate(network, members)
    if kind == "point_to_point":
        return laws.point_to_point(size, slow * base.pair.value, factors.pair.value * rate)
    if kind == "all_to_all":
        start, peer = slow * base.all_to_all.value, slow * base.peer.value
        return laws.all_to_all(size, members, members, start, peer, factors.all_to_all.value * rate, np.inf)
    if kind == "broadcast":
        hop = _passed_on(network, size, rate)
        return laws.chain(size, members, 1.0, slow * base.ring.value[_SIMPLE], hop, 0.0, rate)
    passes = 2.0 if kind == "all_reduce" else 1.0
    cap = network.architecture.low_latency.value[0]
    best = np.full(size.shape, np.inf)
    for protocol in (_LL, _LL128, _SIMPLE):
        ceiling = cap if protocol == _LL else np.inf
        start, near = slow * base.ring.value[protocol], slow * link.ring.value[protocol]
        moved = np.minimum(factors.ring.value[protocol] * rate, ceiling)
        best = np.minimum(best, laws.ring(size, members, 1.0, passes, start, near, 0.0, moved))
        if kind == "all_reduce":
            start, near = slow * base.tree.value[protocol], slow * link.tree.value[protocol]
            moved = np.minimum(factors.tree.value[protocol] * rate, ceiling)
            best = np.minimum(best, laws.tree(size, members, 1.0, start, near, 0.0, moved))
    if kind == "all_reduce" and network.multicast:
        in_switch = laws.switch(size, slow * base.switch.value, _switch_rate(network))
        best = np.where(members >= _switch_members(network), np.minimum(best, in_switch), best)
    return best


def _passed_on(network: Network, size: Array, rate: Array) -> Array:
    """Seconds of a broadcast's hop inside a domain: latency, and the first chunk."""
    latency = network.architecture.latency.value * network.link.ring.value[_SIMPLE]
    return latency + laws.pipeline_fill(size, tuning().network.in_flight.value, rate)


def _switch_rate(network: Network) -> float:
    share = network.architecture.switch
    return network.rate * (share.value if share else 0.0)


def _switch_members(network: Network) -> float:
    least = network.architecture.switch_members
    return float(least.value) if least else np.inf


def _adapter(network: Network, domains: Array) -> Array:
    """Adapter share of a member; beyond a pod, all of it over the thinner uplinks (placement unknown: the worst)."""
    return np.where(domains > network.pod_domains, network.adapter / network.oversubscription, network.adapter)


def _across(network: Network, kind: Kind, size: Array, members: Array, local: Array) -> Array:
    constants, slow = tuning(), network.architecture.latency.value
    outside, base = constants.network, constants.base
    domains = members / local
    adapter = _adapter(network, domains)
    slower = max(network.fabric_latency - outside.fabric_included.value, 0.0)
    wait = outside.fabric_messages.value * slower
    if kind == "point_to_point":
        start = slow * base.pair.value + outside.pair.value + wait
        return laws.point_to_point(size, start, outside.pair_factor.value * adapter)
    rate = _scaleup_rate(network, local)
    if kind == "all_to_all":
        exchange = laws.all_to_all_on_rails if network.rails else laws.all_to_all
        start = slow * base.all_to_all.value + outside.pair.value + wait
        far_peers = (members - local) * outside.peer.value
        within = constants.factors.all_to_all.value * rate
        peer = slow * base.peer.value
        return far_peers + exchange(size, members, local, start, peer, within, outside.pair_factor.value * adapter)
    leaving = local * outside.stream_factor.value * adapter
    bus = np.minimum(np.where(local > 1, rate, np.inf), leaving)
    if kind == "broadcast":
        near = _passed_on(network, size, rate)
        far = outside.ring.value[_SIMPLE] + wait + laws.pipeline_fill(size, outside.in_flight.value, leaving)
        return laws.chain(size, members, domains, slow * base.ring.value[_SIMPLE], near, far, bus)
    passes = 2.0 if kind == "all_reduce" else 1.0
    cap = np.where(domains > 2, *network.architecture.low_latency.value[:0:-1])
    overhead = outside.overhead.value + outside.overhead_messages.value * slower
    best = _rings_across(network, constants, passes, size, members, domains, bus, cap, wait, overhead)
    if kind == "all_reduce":
        return np.minimum(best, _trees_across(network, constants, size, local, domains, bus, leaving, cap, wait))
    moved = constants.factors.pat.value * leaving
    pat = laws.pat(size, members, base.pat.value, outside.pat.value + wait, base.pat_per_rank.value, moved)
    return np.where(local == 1, np.minimum(best, pat), best)


def _rings_across(
    network: Network,
    constants: Tuning,
    passes: float,
    size: Array,
    members: Array,
    domains: Array,
    bus: Array,
    cap: Array,
    wait: float,
    overhead: float,
) -> Array:
    outside, slow = constants.network, network.architecture.latency.value
    best = np.full(size.shape, np.inf)
    for protocol, share in enumerate(constants.factors.ring_across.value):
        if share == 0:
            continue
        floor = overhead * (3.0 if protocol == _SIMPLE else 1.0)
        plateau = constants.factors.ring_plateau.value if protocol == _SIMPLE else 1.0
        near = plateau * max(slow * network.link.ring.value[protocol], floor)
        far = plateau * (outside.ring.value[protocol] + wait)
        moved = np.minimum(share * bus, cap) if protocol == _LL else share * bus
        start = slow * constants.base.ring.value[protocol]
        best = np.minimum(best, laws.ring(size, members, domains, passes, start, near, far, moved))
    return best


def _trees_across(
    network: Network,
    constants: Tuning,
    size: Array,
    local: Array,
    domains: Array,
    bus: Array,
    leaving: Array,
    cap: Array,
    wait: float,
) -> Array:
    outside, slow = constants.network, network.architecture.latency.value
    fill = laws.pipeline_fill(size, local * outside.in_flight.value, leaving)
    best = np.full(size.shape, np.inf)
    for protocol, share in enumerate(constants.factors.tree_across.value):
        if share == 0:
            continue
        start, near = slow * constants.base.tree.value[protocol], slow * network.link.tree.value[protocol]
        far = outside.tree.value[protocol] + wait + (fill if protocol == _SIMPLE else 0.0)
        moved = np.minimum(share * bus, cap) if protocol == _LL else share * bus
        best = np.minimum(best, laws.tree(size, local, domains, start, near, far, moved))
    if not network.multicast:
        return best
    far = outside.switch_tree.value + wait + fill
    start = slow * constants.base.switch_tree.value
    in_switch = laws.switch_tree(size, domains, start, far, _switch_rate(network), leaving)
    return np.where(local >= _switch_members(network), np.minimum(best, in_switch), best)
