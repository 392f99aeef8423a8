"""Seconds of collectives: latency plus size over bandwidth, as NCCL's tuner estimates them (NCCL src/graph/tuning.cc).

Every argument is a float or an array and broadcasts. Symbols: n `members` of the group, `domains` scale-up domains
they lie in, `local` = n / domains members in each; sizes (B) are whole messages and bandwidths (B/s) bus bandwidths
in the convention of nccl-tests (doc/PERFORMANCE.md). Latencies are in s. A group of one member costs its base
latency at most; callers price it as nothing.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]
Number = Array | float


def ring(
    size: Array, members: Number, domains: Number, passes: Number, base: Number, near: Number, far: Number, rate: Number
) -> Array:
    """Ring of n ranks (s): `passes` 2 for all-reduce, 1 for all-gather or reduce-scatter.

    passes x ((n - domains) near + (domains - 1) far) of latency, passes x (n - 1)/n x size over the bus bandwidth
    `rate`. tuning.cc: nsteps = 2(n - 1) or n - 1, of which 2(domains - 1) or domains - 1 cross the network;
    factors as in nccl-tests PERFORMANCE.md.
    """
    latency = passes * ((members - domains) * near + (domains - 1) * far)
    return base + latency + passes * (members - 1) / members * size / rate


def chain(
    size: Array, members: Number, domains: Number, base: Number, near: Number, far: Number, rate: Number
) -> Array:
    """Broadcast down a ring of n ranks (s): every hop passes the message on as it comes in.

    (n - domains) near + (domains - 1) far of latency, the wait for a hop's first chunk included, and the message once
    over the bus bandwidth `rate` (NCCL tuning.cc, ring broadcast: nsteps = n; Thakur et al. 2005 section 4.5).
    """
    return base + (members - domains) * near + (domains - 1) * far + size / rate


def tree(size: Array, local: Number, domains: Number, base: Number, near: Number, far: Number, rate: Number) -> Array:
    """Double binary tree all-reduce (s): up and down a chain of `local` ranks and log2(domains) levels of network.

    Every rank forwards the message twice, so `size` moves at half the bus bandwidth `rate` (NCCL tuning.cc; Sanders,
    Speck and Traeff 2009 for the two complementary trees).
    """
    return base + 2 * ((local - 1) * near + np.log2(domains) * far) + 2 * size / rate


def switch(size: Array, base: Number, rate: Number) -> Array:
    """All-reduce in the switches of one domain, NVLS (s): every rank sends and receives the message once at `rate`.

    `rate` is an algorithm bandwidth (size over time), not a bus bandwidth (NCCL tuning.cc, NVLS).
    """
    return base + size / rate


def switch_tree(size: Array, domains: Number, base: Number, far: Number, inside: Number, network: Number) -> Array:
    """NVLSTree all-reduce (s): reduced in each domain's switches, then up and down a double tree of domains.

    `inside` is the algorithm bandwidth of the switches, `network` the bus bandwidth a domain has outside, of which a
    tree moves half (NCCL tuning.cc: 2 log2(domains) network latencies, the slower of both bandwidths). Of two domains
    each is the root of one tree and the leaf of the other, so every byte of the message leaves a domain once only.
    """
    moved = np.where(np.asarray(domains) > 2, network / 2, network)
    return base + 2 * np.log2(domains) * far + size / np.minimum(inside, moved)


def pat(size: Array, members: Number, base: Number, far: Number, per_rank: Number, rate: Number) -> Array:
    """PAT all-gather or reduce-scatter with one rank a domain (s).

    log2(n) network latencies of which 3.5 overlap, plus `per_rank` for every member (NCCL tuning.cc); (n - 1)/n of the
    message over the bus bandwidth `rate`.
    """
    return base + np.log2(members) * far / 3.5 + members * per_rank + (members - 1) / members * size / rate


def pipeline_fill(size: Array, in_flight: Number, rate: Number) -> Array:
    """What one network hop of a pipelined tree waits for the first chunk (s).

    A hop forwards chunks, so it starts once one has arrived: at most `in_flight` bytes over all channels, and half
    of a short message, over `rate`. The shape is ours; `in_flight` is fitted (profiles/collectives).
    """
    return np.minimum(in_flight, size / 2) / rate


def hierarchical(
    size: Array, local: Number, domains: Number, near: Number, far: Number, inside: Number, network: Number
) -> Array:
    """All-reduce as reduce-scatter inside, all-reduce of the shards outside, all-gather inside, one after another (s).

    `inside` is the bus bandwidth in a domain, `network` the bandwidth of one member outside (2D all-reduce, Cho et al.
    2019, BlueConnect, section 3).
    """
    zero = 0 * near
    within = ring(size, local, 1, 2, zero, near, far, inside)
    across = ring(size / local, domains, domains, 2, zero, near, far, network)
    return within + across


def all_to_all(
    size: Array, members: Number, local: Number, base: Number, per_peer: Number, inside: Number, network: Number
) -> Array:
    """Personalised exchange where each rank holds `size` bytes in all (s).

    size (n - local)/n leaves over the rank's share of adapters `network` while size (local - 1)/n moves `inside`
    (nccl-tests PERFORMANCE.md; SimAI calbusbw.cc for the share that crosses); every peer costs `per_peer`.
    """
    across = size * (members - local) / members / network
    within = size * (local - 1) / members / inside
    return base + (members - 1) * per_peer + np.maximum(across, within)


def all_to_all_on_rails(
    size: Array, members: Number, local: Number, base: Number, per_peer: Number, inside: Number, network: Number
) -> Array:
    """All-to-all that keeps to its rail (PXN): bytes for another rail first move to the neighbour on that rail (s).

    As `all_to_all`, and the links inside carry (local - 1)/local of the leaving bytes as well (NVIDIA, "Doubling
    all2all performance with NCCL 2.12").
    """
    leaving = size * (members - local) / members
    within = (size * (local - 1) / members + leaving * (local - 1) / local) / inside
    return base + (members - 1) * per_peer + np.maximum(leaving / network, within)


def destinations(copies: Number, places: Number) -> Array:
    """How many of `places` (1) hold at least one of `copies` (1) drawn among them with equal odds.

    Expected occupied urns, d (1 - (1 - 1/d)^k) (Feller 1968, An Introduction to Probability Theory, IV.2). A token goes
    to each domain once and is forwarded inside it: DeepSeek-V3 (arXiv 2412.19437) section 3.2.2.
    """
    return np.asarray(places * (1 - (1 - 1 / np.asarray(places, float)) ** copies))


def checked_call(members: Number, local: Number, inside: Number, across: Number) -> Array:
    """Host time of one collective call that its ranks compare before they make it (s).

    TORCH_DISTRIBUTED_DEBUG=DETAIL runs gloo's monitored barrier, in which one rank answers every other in turn, and a
    gather of fingerprints before each NCCL call (PyTorch ProcessGroupWrapper.cpp, runCollectiveChecks): `inside`
    seconds for each of the `local` ranks, `across` for the others.
    """
    return np.asarray(local * inside + (members - local) * across)


def point_to_point(size: Array, base: Number, rate: Number) -> Array:
    """One message between two ranks (s): latency plus size over `rate` (nccl-tests doc/PERFORMANCE.md)."""
    return base + size / rate


def spread(members: Number) -> Array:
    """Standard deviations (1) by which the last of n independent ranks arrives after the mean.

    The expected largest of n normals by Blom's approximation of order statistics, the inverse normal of
    (n - 3/8) / (n + 1/4) (Blom 1958, Statistical Estimates and Transformed Beta-Variables); exact within 5 % for
    n >= 2, nothing for n = 1.
    """
    n = np.maximum(np.asarray(members, float), 1.0)
    return np.where(n > 1, ndtri((n - 0.375) / (n + 0.25)), 0.0)
