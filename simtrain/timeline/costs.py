"""Seconds of everything one step of one plan is made of: what the replay is given."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NO_SECONDS: Final = np.zeros((1, 1))
NO_PASSES: Final = np.zeros((1, 1, 1))
NONE_HIDDEN: Final = np.zeros((2, 1, 1, 1))
ALONE: Final = (
    "bubble",
    "pipeline communication",
    "gradient reduction",
    "parameter gathering",
    "activation copies",
    "optimizer",
    "step overhead",
)
"""What a stage's seconds go to beside the categories of its passes; the bubble is all other idling."""


@dataclass(frozen=True)
class Traffic:
    """Data-parallel communication of one kind, shape (stages, chunks), and how it hides."""

    seconds: Array
    """Of one round: of a step, or with `every` of a pass."""
    hidden: float = 0.0
    """Share that runs beside the pass it belongs to; the rest stands alone."""
    every: bool = False
    """Once for each microbatch, not once a step."""
    again: Array = field(default_factory=lambda: NO_SECONDS)
    """Of one round that a backward pass needs, with `every`."""


@dataclass(frozen=True)
class Costs:
    """One plan on its stages. Passes have shape (categories, stages, chunks), what stands alone (stages,)."""

    forward: Array
    backward: Array
    """Without the weights' gradients."""
    weight: Array
    hops: Array
    """One message from each stage to the next (the last: to the first), shape (stages,)."""
    gather: Traffic
    reduction: Traffic
    update: Array
    shown: float = 1.0
    """Share of a message in which its sender does nothing else."""
    copies_out: Array = field(default_factory=lambda: NO_SECONDS)
    """Of one microbatch's activations off the device, shape (stages, chunks); 0: they stay."""
    copies_in: Array = field(default_factory=lambda: NO_SECONDS)
    """And back."""
    buckets: int = 1
    """Pieces a traffic of one round a step moves in."""
    tied: float = 0.0
    """Sum of tied embeddings' gradients between both ends."""
    overhead: float = 0.0
    """Host time of a step outside the model."""
    host: Array = field(default_factory=lambda: NO_PASSES)
    """Host time before a chunk's forward pass, which passes while that waits for its input: shape (categories, stages,
    chunks)."""
    synchronous: bool = True
    """Whether no stage updates its weights before all have their gradients."""
    hidden: Array = field(default_factory=lambda: NONE_HIDDEN)
    """Messages beside a chunk's forward and backward pass, which take no time of theirs: shape (2, categories, stages,
    chunks)."""

    def pass_seconds(self) -> Array:
        """Of each phase, in order.PHASES, shape (phases, stages, chunks)."""
        forward, backward, weight = (parts.sum(axis=0) for parts in (self.forward, self.backward, self.weight))
        return np.stack([forward, backward + weight, backward, weight])
