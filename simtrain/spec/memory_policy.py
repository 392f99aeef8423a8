"""What a system does with which tensor: its memory plans are those of the program restricted to this."""

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from simtrain.spec.base import Spec
from simtrain.spec.frozen import Freeze
from simtrain.spec.memory_plan import MADE_AGAIN, MOVED, NARROWED, MemoryPlan, Tier
from simtrain.spec.placement import placement
from simtrain.spec.tensors import TensorName

Kind = Literal["recompute", "offload", "quantise"]
Action = Literal["recompute", "cpu", "nvme", "quantise", "chunk"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Rule(Spec):
    """What may happen to one kind of tensor."""

    may: tuple[Kind, ...]
    always: bool = False
    """In every layer; else in as many as it takes."""


class Policy(Spec):
    """One way to treat activations, and where states are."""

    name: str
    title: str
    source: str
    """Paper and section."""
    tensors: dict[TensorName, Rule] = Field(default={})
    tier: Tier = "cpu"
    bits: Literal[4, 8] = 8
    loss_chunks: PositiveInt = 1
    layer_chunks: PositiveInt = 1
    offload: Annotated[str, AfterValidator(placement)] = "none"
    """States off the device, as in a plan."""
    freeze: Freeze = Field(default={})
    """Weights it does not train."""
    optimizer: str | None = None
    """Optimizer it needs, where its states are of other widths."""
    left_out: str | None = None
    """What of the system this does not say."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for tensor, rule in self.tensors.items():
            if "recompute" in rule.may and tensor not in MADE_AGAIN:
                raise ValueError(f"{tensor} cannot be recomputed: a layer starts from it")
            if "offload" in rule.may and tensor not in MOVED:
                raise ValueError(f"{tensor} is used at once: it cannot move")
            if "quantise" in rule.may and tensor not in NARROWED:
                raise ValueError(f"{tensor} cannot be kept in fewer bits")
        return self

    def may(self, tensor: TensorName, kind: Kind) -> bool:
        """Whether a tensor may be treated so."""
        return tensor in self.tensors and kind in self.tensors[tensor].may

    def always(self, tensor: TensorName) -> bool:
        """Whether it must be, in every layer."""
        return tensor in self.tensors and self.tensors[tensor].always

    @property
    def frame(self) -> MemoryPlan:
        """A memory plan of its tier, bits and chunks, with no stage treated yet."""
        return MemoryPlan(tier=self.tier, bits=self.bits, loss_chunks=self.loss_chunks, layer_chunks=self.layer_chunks)


def free(actions: Sequence[Action]) -> Policy:
    """Anything that these actions allow, to every tensor; chunks and tier are for whoever plans to choose."""
    kinds: dict[Kind, bool] = {
        "recompute": "recompute" in actions,
        "offload": "cpu" in actions or "nvme" in actions,
        "quantise": "quantise" in actions,
    }
    able: dict[Kind, tuple[TensorName, ...]] = {"recompute": MADE_AGAIN, "offload": MOVED, "quantise": NARROWED}
    tensors = {
        name: Rule(may=tuple(kind for kind, there in kinds.items() if there and name in able[kind])) for name in MOVED
    }
    return Policy(name="free", title="whatever is allowed", source="the command line", tensors=tensors)


def actions_of(plan: MemoryPlan | None) -> tuple[Action, ...]:
    """What a memory plan does with activations, in the order of ACTIONS."""
    if plan is None:
        return ()
    done = {kind for stage in plan.stages for how in stage.tensors.values() for kind in KINDS if getattr(how, kind)}
    chunks = max(plan.loss_chunks, plan.layer_chunks) > 1
    named = {*done - {"offload"}, *([plan.tier] if "offload" in done else []), *(["chunk"] if chunks else [])}
    return tuple(action for action in ACTIONS if action in named)
