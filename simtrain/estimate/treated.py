"""A memory plan laid over the stages of one layout: the seconds it adds, the bytes that stay, those that travel."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.choices import Choices, Passage
from simtrain.estimate.effects import RECOMPUTE, at_once, counts, effects, rebuilding, summed
from simtrain.price.categories import ELEMENTWISE
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.tensors import TENSORS, TensorName

Array = NDArray[np.float64]
MADE_BY_WEIGHTS: Final[tuple[TensorName, ...]] = ("projected", "middle", "routed", "expanded")


@dataclass(frozen=True)
class Treated:
    """A memory plan on the stages of one layout; of one microbatch, arrays of shape (stages,) unless said."""

    forward: Array
    """Seconds added, shape (categories, stages)."""
    backward: Array
    kept: Array
    """Bytes that stay on the device."""
    working: Array
    """Bytes rebuilt, widened or under way at once."""
    away: Array
    """Bytes that leave it."""
    copies: tuple[Array, Array]
    """Seconds of moving them out and in."""
    flops: float
    """FLOP made again, of all stages."""
    gathered_again: Array
    """Share of a stage's layers whose weights making tensors again takes."""
    loss: float
    """Bytes at the loss."""
    loss_seconds: float
    """Added to the head's backward pass."""


def treated(of: Choices, plan: MemoryPlan) -> Treated:
    """What a plan makes of these choices."""
    effect, layers = effects(of, plan.layer_chunks), counts(plan, len(of.layers))
    backward = summed(effect.backward, layers)
    backward[ELEMENTWISE] += rebuilding(effect, layers)
    again, away = layers[RECOMPUTE] / np.maximum(of.layers, 1), summed(effect.away, layers)
    return Treated(
        forward=summed(effect.forward, layers),
        backward=backward,
        kept=of.size.sum(axis=0) - summed(effect.freed, layers),
        working=at_once(effect, layers),
        away=away,
        copies=copies(of.passages, away),
        flops=float((again * of.flops).sum()),
        loss=of.at_loss(plan.loss_chunks),
        gathered_again=max((again[TENSORS.index(name)] for name in MADE_BY_WEIGHTS), key=np.sum),
        loss_seconds=(plan.loss_chunks - 1) * of.loss_chunk,
    )


def copies(passages: tuple[Passage, ...], away: Array) -> tuple[Array, Array]:
    """Seconds until `away` bytes of every stage are out, and until they are back, beside states on the same ways."""
    moves = away > 0
    out = np.max([away * one.out + one.taken_out for one in passages], axis=0)
    back = np.max([away * one.back + one.taken_back for one in passages], axis=0)
    return moves * out, moves * back
