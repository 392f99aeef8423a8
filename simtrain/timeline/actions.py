"""An order's actions one by one, for every data-parallel replica, and the pieces they are run in."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.costs import Costs
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, NONE, WEIGHT, Index, Order

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Actions:
    """Rank after rank, a rank being a stage of a replica; arrays of shape (actions,) unless said."""

    rank: Index
    chunk: Index
    microbatch: Index
    phase: Index
    position: Index
    replica: Index
    found: Index
    """Numbers of actions, shape (3, replicas, positions, microbatches): forward, first gradient, weight gradient."""
    ranks: int
    stages: int
    chunks: int

    @cached_property
    def stage(self) -> Index:
        """Pipeline stage."""
        return self.rank % self.stages

    @property
    def ahead(self) -> Flags:
        """Where activations come in."""
        return np.asarray(self.phase == FORWARD)

    @property
    def back(self) -> Flags:
        """Where gradients of activations go out."""
        return np.asarray((self.phase == BACKWARD) | (self.phase == INPUT))

    @property
    def gives(self) -> Flags:
        """Where gradients of weights are done."""
        return np.asarray((self.phase == BACKWARD) | (self.phase == WEIGHT))


@dataclass(frozen=True)
class Pieces:
    """Parts of actions that run one after another: the first pass of a chunk and its last weight gradient move their
    traffic in buckets."""

    count: Index
    """Of every action."""
    first: Index
    last: Index
    """Piece an action begins and ends with."""
    opens: Index
    closes: Index
    """Actions that use a rank's chunk first, and that give its last gradient, shape (ranks x chunks,)."""


def listed(order: Order, replicas: int) -> Actions:
    """All actions of `replicas` equal replicas."""
    stages, chunks = order.place.shape
    there = order.phase != NONE
    stage = np.repeat(np.arange(stages), there.sum(axis=1))
    chunk, microbatch, phase = (part[there] for part in (order.chunk, order.microbatch, order.phase))
    position = order.place[stage, chunk]
    replica = np.repeat(np.arange(replicas), len(stage))
    rank = np.tile(stage, replicas) + replica * stages
    chunk, microbatch, phase, position = (np.tile(part, replicas) for part in (chunk, microbatch, phase, position))
    found = np.full((3, replicas, stages * chunks, order.microbatches), NONE)
    found[np.array([0, 1, 1, 2])[phase], replica, position, microbatch] = np.arange(len(phase))
    return Actions(rank, chunk, microbatch, phase, position, replica, found, stages * replicas, stages, chunks)


def pieces(actions: Actions, costs: Costs) -> Pieces:
    """What every action is run in."""
    number, at = np.arange(len(actions.phase)), actions.rank * actions.chunks + actions.chunk
    opens = np.full(actions.ranks * actions.chunks, len(number) - 1)
    np.minimum.at(opens, at[actions.ahead], number[actions.ahead])
    closes = np.zeros_like(opens)
    np.maximum.at(closes, at[actions.gives], number[actions.gives])
    count = np.ones_like(number)
    for traffic, chosen in ((costs.gather, opens), (costs.reduction, closes)):
        if not traffic.every and traffic.hidden * traffic.seconds.max() > 0:
            count[chosen] = costs.buckets
    last = np.cumsum(count) - 1
    return Pieces(count, last - count + 1, last, opens, closes)
