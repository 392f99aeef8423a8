"""Memory over time on every stage: what is held for good, what passes bring and free, and the peak."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.memory import CLASSES, ROUNDING
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, WEIGHT, Order

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Held:
    """Bytes of one plan on its stages."""

    resident: Array
    """All that stays through the step, by memory.CLASSES, shape (classes, stages)."""
    activations: Array
    """Of one microbatch in one chunk, shape (stages, chunks)."""
    waiting: Array
    """Part of them that weight gradients wait with once the backward pass is done, shape (stages, chunks)."""
    logits: Array
    """Of one microbatch at the loss, shape (stages,); where the head is."""
    working: Array
    """While a backward pass rebuilds what was not kept, shape (stages,)."""
    lost: float = 0.0
    """Share of what comes and goes that is lost between blocks."""


@dataclass(frozen=True)
class Footprint:
    """Bytes in use during every action of an order, arrays of shape (stages, actions)."""

    activations: Array
    logits: Array
    working: Array
    held: Array
    """What stays through the step, by memory.CLASSES, shape (classes, stages)."""
    lost: float

    @property
    def resident(self) -> Array:
        """All that stays, shape (stages,)."""
        return np.asarray(self.held.sum(axis=0))

    @property
    def total(self) -> Array:
        """All bytes in use, shape (stages, actions)."""
        moving = self.activations + self.logits + self.working
        return self.resident[:, None] + moving * (1 + self.lost)

    @property
    def peak(self) -> tuple[int, int]:
        """Stage and action of the highest use, the first of equal ones."""
        total = self.total
        stage, action = np.unravel_index(int((total >= total.max() * (1 - ROUNDING)).argmax()), total.shape)
        return int(stage), int(action)

    def classes(self, stage: int, action: int) -> Array:
        """Bytes by memory.CLASSES on a stage during an action, shape (classes,)."""
        found = self.held[:, stage].copy()
        moving = {"activations": self.activations, "logits": self.logits, "working set": self.working}
        for name, part in moving.items():
            found[CLASSES.index(name)] += part[stage, action]
            found[CLASSES.index("fragmentation")] += self.lost * part[stage, action]
        return found


def footprint(order: Order, held: Held) -> Footprint:
    """Activations are born with a forward pass and freed after the backward pass, but for what weight gradients wait
    with; logits live from the head's forward pass through its backward pass."""
    chunk = np.maximum(order.chunk, 0)
    whole = np.take_along_axis(held.activations, chunk, axis=1)
    waits = np.take_along_axis(held.waiting, chunk, axis=1)
    born = np.where(order.phase == FORWARD, whole, 0.0)
    leaves = {BACKWARD: whole, INPUT: whole - waits, WEIGHT: waits}
    freed = np.sum([np.where(order.phase == phase, size, 0.0) for phase, size in leaves.items()], axis=0)
    back = (order.phase == BACKWARD) | (order.phase == INPUT)
    logits = np.where(order.position == order.place.size - 1, held.logits[:, None], 0.0)
    loss = np.where(order.phase == FORWARD, logits, 0.0)
    spent = np.where(back, logits, 0.0)
    return Footprint(
        activations=_alive(born, freed),
        logits=_alive(loss, spent),
        working=np.where(back, held.working[:, None], 0.0),
        held=held.resident,
        lost=held.lost,
    )


def _alive(born: Array, freed: Array) -> Array:
    """Held during each action: all born so far, less what was freed before it, shape (stages, actions)."""
    return np.cumsum(born, axis=1) - np.cumsum(freed, axis=1) + freed
