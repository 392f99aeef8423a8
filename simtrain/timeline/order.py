"""A pipeline schedule as an order: which action every stage runs after which.

An action is a chunk, a microbatch and a phase. Seconds are the replay's business.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]
PHASES: Final = ("forward", "backward", "backward-input", "backward-weight")
FORWARD, BACKWARD, INPUT, WEIGHT = range(len(PHASES))
"""`backward` gives both gradients; the other two give them one by one (arXiv 2401.10241)."""
NONE: Final = -1
LETTERS: Final = "FBIW"


@dataclass(frozen=True)
class Order:
    """Actions of shape (stages, actions), row by row as each stage runs them; `NONE` behind the last."""

    chunk: Index
    microbatch: Index
    phase: Index
    place: Index
    """Position of every stage's chunks on a microbatch's way through the model, shape (stages, chunks)."""

    @property
    def stages(self) -> int:
        """Pipeline stages."""
        return len(self.chunk)

    @property
    def microbatches(self) -> int:
        """Microbatches a step has."""
        return int(self.microbatch.max()) + 1

    @property
    def position(self) -> Index:
        """Where on a microbatch's way each action stands, shape (stages, actions)."""
        return np.where(self.phase == NONE, NONE, np.take_along_axis(self.place, np.maximum(self.chunk, 0), axis=1))


def looped(stages: int, chunks: int) -> Index:
    """Every chunk begins on the first stage again: virtual stages of arXiv 2104.04473, shape (stages, chunks)."""
    return np.arange(stages)[:, None] + stages * np.arange(chunks)[None, :]


def folded(stages: int, chunks: int) -> Index:
    """The way turns back at either end: waves (arXiv 2308.15762), a V with two chunks; shape (stages, chunks)."""
    down = looped(stages, chunks)
    return np.where(np.arange(chunks) % 2 == 0, down, down[::-1])


def joined(rows: list[Index], place: Index) -> Order:
    """An Order of rows of shape (actions, 3): chunk, microbatch, phase."""
    table = np.full((len(rows), max(map(len, rows)), 3), NONE, dtype=np.int64)
    for stage, row in enumerate(rows):
        table[stage, : len(row)] = row
    return Order(table[..., 0], table[..., 1], table[..., 2], place)


def first_of(order: Order, stages: int) -> Order:
    """What the first stages run of a pipeline whose others hold nothing; they still run ahead for those."""
    return Order(order.chunk[:stages], order.microbatch[:stages], order.phase[:stages], order.place[:stages])


def actions(chunk: Index | int, microbatch: Index, phase: int) -> Index:
    """Rows (chunk, microbatch, phase) of one phase, shape (microbatches, 3)."""
    return np.stack(np.broadcast_arrays(chunk, microbatch, phase), axis=-1).astype(np.int64)


def alternating(forwards: Index, backwards: Index, warm_up: int) -> Index:
    """`warm_up` forward passes, then one forward and one backward pass in turn, then the backward passes left."""
    warm_up = min(warm_up, len(forwards))
    steady = len(forwards) - warm_up
    pairs = np.stack([forwards[warm_up:], backwards[:steady]], axis=1).reshape(-1, forwards.shape[1])
    return np.concatenate([forwards[:warm_up], pairs, backwards[steady:]])


def named(position: int, phase: int, microbatch: int) -> str:
    """An action as PyTorch writes it: chunk's position, F, B, I or W, microbatch; e.g. 3F0."""
    return f"{position}{LETTERS[phase]}{microbatch}"


def mistakes(order: Order) -> list[str]:
    """What an order misses or has too often: each chunk needs one forward pass a microbatch and both gradients."""
    count, size = order.place.size, order.microbatches
    seen = np.zeros((len(PHASES), count, size), dtype=np.int64)
    valid = order.phase != NONE
    np.add.at(seen, (order.phase[valid], order.position[valid], order.microbatch[valid]), 1)
    found = [
        f"{named(position, phase, microbatch)} stands there {seen[phase, position, microbatch]} times"
        for phase, position, microbatch in np.argwhere(seen > 1).tolist()
    ]
    at_once = seen[BACKWARD] > 0
    wanted = np.stack([np.ones_like(at_once), ~at_once & (seen[INPUT] + seen[WEIGHT] == 0), ~at_once, ~at_once])
    wanted[INPUT] &= ~wanted[BACKWARD]
    wanted[WEIGHT] &= ~wanted[BACKWARD]
    found += [
        f"{named(position, phase, microbatch)} is missing"
        for phase, position, microbatch in np.argwhere(wanted & (seen == 0)).tolist()
    ]
    found += [
        f"{named(position, phase, microbatch)} repeats a part of {named(position, BACKWARD, microbatch)}"
        for phase in (INPUT, WEIGHT)
        for position, microbatch in np.argwhere(at_once & (seen[phase] > 0)).tolist()
    ]
    return found
