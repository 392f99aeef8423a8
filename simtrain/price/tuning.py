"""Constants of the collective library (profiles/collectives/nccl.toml), checked on reading."""

import functools
from typing import Annotated

from pydantic import Field, PositiveInt

from simtrain.price.profile_file import MeasuredLinks
from simtrain.spec.base import Duration, Fact, Rate, Size, Spec, checked
from simtrain.spec.hardware import LinkKind
from simtrain.spec.library import path_of, read_toml

Factor = Annotated[float, Field(ge=0, le=1)]
Latencies = Fact[tuple[Duration, Duration, Duration]]
"""Of the protocols LL, LL128 and Simple."""
Factors = Fact[tuple[Factor, Factor, Factor]]
"""Share of the Simple ring's bandwidth the protocols LL, LL128 and Simple move; 0: not used."""


class Base(Spec):
    """What an algorithm costs before any hop."""

    ring: Latencies
    tree: Latencies
    pat: Fact[Duration]
    pat_per_rank: Fact[Duration]
    switch: Fact[Duration]
    switch_tree: Fact[Duration]
    pair: Fact[Duration]
    all_to_all: Fact[Duration]
    peer: Fact[Duration]
    """Of an all-to-all, for every peer."""


class FactorTable(Spec):
    """Shares of the links' bandwidth by algorithm, inside a domain and across domains."""

    ring: Factors
    ring_across: Factors
    tree: Factors
    tree_across: Factors
    pat: Fact[Factor]
    ring_plateau: Fact[Annotated[float, Field(ge=1)]]
    """Factor on the latency of a Simple ring over the network."""
    pair: Fact[Factor]
    all_to_all: Fact[Factor]


class Outside(Spec):
    """The network between domains."""

    ring: Latencies
    tree: Latencies
    switch_tree: Fact[Duration]
    pat: Fact[Duration]
    pair: Fact[Duration]
    peer: Fact[Duration]
    overhead: Fact[Duration]
    fabric_included: Fact[Duration]
    fabric_messages: Fact[Annotated[float, Field(ge=0)]]
    overhead_messages: Fact[Annotated[float, Field(ge=0)]]
    stream_factor: Fact[Factor]
    pair_factor: Fact[Factor]
    in_flight: Fact[Size]
    """Bytes a member holds before the next hop of a tree starts."""


class Link(Spec):
    """Latency of a hop on one kind of link."""

    mesh: bool
    """Without a switch, a pair has one link's share of the bandwidth."""
    ring: Latencies
    tree: Latencies


class Architecture(Spec):
    """What depends on the generation of the device."""

    rate: dict[LinkKind, Fact[Factor]]
    latency: Fact[Annotated[float, Field(gt=0)]]
    low_latency: Fact[tuple[Rate, Rate, Rate]]
    """Most that LL moves in one, two and more domains."""
    switch: Fact[Factor] | None = None
    """Algorithm bandwidth of an in-switch all-reduce, as a share of the ring's; None: there is none."""
    switch_members: Fact[PositiveInt] | None = None


class Tuning(Spec):
    """The whole file."""

    title: str
    base: Base
    factors: FactorTable
    network: Outside
    links: dict[LinkKind, Link]
    architectures: dict[str, Architecture]


class Measured(Spec):
    """Which links stand behind each device's collective.csv."""

    source: str
    devices: dict[str, MeasuredLinks]


@functools.cache
def tuning() -> Tuning:
    """The tuner's constants."""
    path = path_of("profiles", "collectives", "nccl.toml")
    return checked(Tuning, read_toml(path), path.name)


@functools.cache
def measured() -> Measured:
    """The links of the measured curves."""
    path = path_of("profiles", "collectives", "measured.toml")
    return checked(Measured, read_toml(path), path.name)
