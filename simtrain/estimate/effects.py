"""What treating one tensor of one layer costs and frees: all sums over treated tensors are linear in it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.choices import Choices
from simtrain.price.categories import CATEGORIES, ELEMENTWISE
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.memory_policy import KINDS
from simtrain.spec.tensors import TENSORS
from simtrain.workload.strategies.offload import BUFFERED_LAYERS

Array = NDArray[np.float64]
RECOMPUTE, OFFLOAD, QUANTISE = range(len(KINDS))


@dataclass(frozen=True)
class Effects:
    """Of one layer treated, of one microbatch; arrays of shape (kinds, tensors, stages) unless said."""

    forward: Array
    """Seconds added to a forward pass, shape (kinds, tensors, categories, stages)."""
    backward: Array
    freed: Array
    """Bytes no longer on the device."""
    away: Array
    """Bytes that leave it and come back."""
    at_once: Array
    """Bytes that exist at once as soon as any layer is treated so: rebuilt, widened, or under way."""
    rebuilt: Array
    """Seconds added to a backward pass as soon as any layer makes a tensor again, shape (stages,)."""

    def of(self, stage: int) -> "Effects":
        """The same of one stage, which stays an axis of length 1."""
        return Effects(**{name: part[..., [stage]] for name, part in vars(self).items()})


def effects(of: Choices, layer_chunks: int) -> Effects:
    """Of layers that are rebuilt in so many chunks of the sequence."""
    shape = (len(KINDS), len(TENSORS), len(of.layers))
    some = np.maximum(of.layers, 1)
    forward, backward = (np.zeros((*shape[:2], len(CATEGORIES), shape[2])) for _ in range(2))
    freed, away, at_once = (np.zeros(shape) for _ in range(3))
    forward[QUANTISE, :, ELEMENTWISE] = backward[QUANTISE, :, ELEMENTWISE] = of.narrowed / some
    backward[RECOMPUTE] = of.again / some
    freed[RECOMPUTE] = freed[OFFLOAD] = away[OFFLOAD] = of.size / some
    freed[QUANTISE] = (1 - of.ratio[:, None]) * of.size / some
    at_once[RECOMPUTE], at_once[QUANTISE] = of.rebuilt(layer_chunks), of.layer
    at_once[OFFLOAD] = BUFFERED_LAYERS * of.layer
    return Effects(forward, backward, freed, away, at_once, (layer_chunks - 1) * of.chunk)


def counts(plan: MemoryPlan, stages: int) -> Array:
    """Layers that a plan treats, shape (kinds, tensors, stages)."""
    found = np.zeros((len(KINDS), len(TENSORS), stages))
    for stage in range(stages):
        for name, how in plan.of(stage).items():
            found[:, TENSORS.index(name), stage] = [getattr(how, kind) for kind in KINDS]
    return found


def summed(effect: Array, layers: Array) -> Array:
    """An effect of `layers` treated (kinds, tensors, stages), shape ([categories,] stages)."""
    return np.asarray(np.einsum("kt...s,kts->...s", effect, layers))


def at_once(effect: Effects, layers: Array) -> Array:
    """Bytes rebuilt, widened or under way at once, shape (stages,)."""
    return summed(effect.at_once, (layers > 0).astype(float))


def rebuilding(effect: Effects, layers: Array) -> Array:
    """Seconds that chunks of rebuilt layers add to a backward pass, shape (stages,)."""
    return np.asarray(effect.rebuilt * (layers[RECOMPUTE].sum(axis=0) > 0))
