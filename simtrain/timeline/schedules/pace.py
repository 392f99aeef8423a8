"""What a schedule that is searched is fitted to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Mean seconds of one chunk's passes and of a message."""

    forward: float = 1.0
    backward: float = 1.0
    """Without the weights' gradients."""
    weight: float = 1.0
    hop: float = 0.0
    waiting: float = 0.5
    """Share of a chunk's activations that its weight gradients wait with (M_W / M_B)."""
