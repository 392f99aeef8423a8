"""What happens to the activations of a step between their forward and their backward pass, stage by stage."""

from collections.abc import Sequence
from typing import Final, Literal, Self, get_args

from pydantic import NonNegativeInt, PositiveInt, model_validator

from simtrain.errors import Problem
from simtrain.spec.base import Spec
from simtrain.spec.tensors import TENSORS, TensorName

Tier = Literal["cpu", "nvme"]
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
MADE_AGAIN: tuple[TensorName, ...] = tuple(name for name in TENSORS if name not in ("input", "head", "loss"))
"""Tensors that can be made again from a layer's input."""
MOVED: tuple[TensorName, ...] = tuple(name for name in TENSORS if name not in ("head", "loss"))
"""Tensors that can leave the device."""
NARROWED: tuple[TensorName, ...] = tuple(name for name in MOVED if name != "masks")
"""Tensors that can be kept in fewer bits: a mask is a byte an element."""


class Treatment(Spec):
    """Layers of a stage in which one kind of tensor is not kept as it is; in the rest it is."""

    recompute: NonNegativeInt = 0
    """Made again in the backward pass."""
    offload: NonNegativeInt = 0
    """Copied to the plan's tier, and back."""
    quantise: NonNegativeInt = 0
    """Kept in the plan's bits, with a scale for every block."""

    @property
    def layers(self) -> int:
        """All of them."""
        return self.recompute + self.offload + self.quantise


class StageMemory(Spec):
    """Neighbouring stages that treat their tensors alike."""

    first: NonNegativeInt
    last: NonNegativeInt
    tensors: dict[TensorName, Treatment]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, treatment in self.tensors.items():
            if treatment.recompute and name not in MADE_AGAIN:
                raise ValueError(f"{name} cannot be recomputed: a layer starts from it")
            if treatment.offload and name not in MOVED:
                raise ValueError(f"{name} is used at once: it cannot move")
            if treatment.quantise and name not in NARROWED:
                raise ValueError(f"{name} cannot be kept in fewer bits")
        return self


class MemoryPlan(Spec):
    """Treatment of every stage, and in how many chunks of the sequence layers are rebuilt and the loss is taken."""

    stages: tuple[StageMemory, ...] = ()
    """In order; stages that are not named keep everything."""
    tier: Tier = "cpu"
    bits: Literal[4, 8] = 8
    block: PositiveInt = 128
    """Elements that share a scale of 4 bytes."""
    loss_chunks: PositiveInt = 1
    """Logits, and their gradient, exist for one of so many parts of the sequence at a time (StreamBP,
    arXiv 2506.03077)."""
    layer_chunks: PositiveInt = 1
    """What a layer rebuilds exists so too, but for keys and values (the same paper)."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def problems(self, where: str, layers: Sequence[int]) -> list[Problem]:
        """Where it speaks of other stages than a pipeline has, or of more `layers` than its stages have."""
        stages = len(layers)
        found = []
        before = -1
        for number, part in enumerate(self.stages):
            at = f"{where}.stages.{number}"
            if not before < part.first <= part.last < stages:
                span = f"{part.first}..{part.last}"
                rule = f"must be stages from {before + 1} to {stages - 1}, in order"
                found.append(Problem(at, span, rule, "write one memory plan a layout"))
            before = max(before, part.last)
            for name, treatment in part.tensors.items():
                least = min(layers[part.first : part.last + 1], default=0)
                if treatment.layers > least:
                    rule, fix = f"a stage there has {least} layers", f"treat at most {least}"
                    found.append(Problem(f"{at}.tensors.{name}", treatment.layers, rule, fix))
        return found

    def of(self, stage: int) -> dict[TensorName, Treatment]:
        """The treatment of one stage."""
        for part in self.stages:
            if part.first <= stage <= part.last:
                return part.tensors
        return {}
