"""Tensors of one stage as blocks that are born and die: what an allocator has to place."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.footprint import Held
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, NONE, WEIGHT, Index, Order

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Lifetimes:
    """Blocks, arrays of shape (blocks,): alive from `birth` up to and without `death`."""

    size: Array
    """Bytes."""
    birth: Index
    death: Index

    @property
    def live(self) -> float:
        """Most bytes alive at once: no placement needs less."""
        moments = np.unique(self.birth)
        alive = (self.birth <= moments[:, None]) & (self.death > moments[:, None])
        return float((alive * self.size).sum(axis=1).max(initial=0.0))


def lifetimes(order: Order, held: Held, stage: int, layers: int) -> Lifetimes:
    """Of one stage whose chunks have so many `layers` each.

    A forward pass takes a moment for each layer, which leaves what is kept of it; the backward pass takes the layers
    from the last to the first, each while what it rebuilds is there too. What weight gradients wait with lives on until
    their pass; what of it was not kept begins with the layer's moment in the backward pass. Logits live from the last
    layer's moment of the head's forward pass to the first of its backward pass.
    """
    moments = layers + 1
    phase, chunk, microbatch = (part[stage] for part in (order.phase, order.chunk, order.microbatch))
    there = np.flatnonzero(phase != NONE)
    size: list[float] = []
    birth: list[int] = []
    death: list[int] = []
    begins: dict[tuple[int, int], int] = {}
    gone: dict[tuple[int, int], int] = {}
    for at in there.tolist():
        if phase[at] in (BACKWARD, INPUT):
            begins[int(chunk[at]), int(microbatch[at])] = at * moments
        if phase[at] in (BACKWARD, WEIGHT):
            gone[int(chunk[at]), int(microbatch[at])] = (at + 1) * moments

    def block(bytes_: float, born: int, dead: int) -> None:
        if bytes_ > 0:
            size.append(bytes_)
            birth.append(born)
            death.append(dead)

    head = order.place.size - 1
    for at in there.tolist():
        which, one = int(chunk[at]), (int(chunk[at]), int(microbatch[at]))
        start = at * moments
        if phase[at] == FORWARD:
            back, end = begins[one], gone[one]
            kept, waits = held.activations[stage, which] / layers, held.waiting[stage, which] / layers
            waits = waits if end > back + moments else 0.0
            for layer in range(layers):
                done = back + layers - layer + 1
                block(max(kept - waits, 0.0), start + layer, done)
                block(min(kept, waits), start + layer, end)
                block(max(waits - kept, 0.0), done - 1, end)
            if order.place[stage, which] == head:
                block(float(held.logits[stage]), start + layers, back + 1)
        elif phase[at] in (BACKWARD, INPUT):
            for layer in range(layers):
                block(float(held.working[stage]), start + 1 + layer, start + 2 + layer)
    return Lifetimes(np.array(size), np.array(birth, dtype=np.int64), np.array(death, dtype=np.int64))
