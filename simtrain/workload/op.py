"""One operation of a training step, for many plans at once: counts only, no seconds.

Every number is an array over plans (shape `(plans,)`) or a scalar that broadcasts to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.kernels import BACKWARD_PRODUCTS, attention_flops, keys_seen
from simtrain.spec.tensors import TensorName

Values = NDArray[Any] | float | int
Phase = Literal["forward", "backward"]
Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point"]
Axis = Literal["tensor", "heads", "context", "expert"]
"""`heads`: the context ranks that exchange heads (Ulysses); `context`: those around the ring."""
Role = Literal[
    "projection", "latent up", "core attention", "norm", "activation", "residual", "loss", "routing", "embedding"
]


@dataclass(frozen=True)
class Matmul:
    """`batch` products C[m, n] = A[m, k] B[k, n]; `operand` names which product of the layer's training it is."""

    m: Values
    n: Values
    k: Values
    batch: Values = 1
    operand: Literal["forward", "input", "weight"] = "forward"
    sensitive: bool = False
    """Kept in the wider format under low precision (head, router)."""
    trained: bool = False
    """Has a weight gradient even where the model is frozen (adapters)."""
    aligned: Values = True
    """Whether its rows start at whole 16 bytes, as tensor cores read them."""

    @property
    def flops(self) -> Values:
        """Multiply-adds counted as two."""
        return 2 * np.asarray(self.m, float) * self.n * self.k * self.batch

    def backward(self) -> tuple["Matmul", ...]:
        """Gradients of input A and weight B."""
        return (
            replace(self, n=self.k, k=self.n, operand="input"),
            replace(self, m=self.k, k=self.m, operand="weight"),
        )


@dataclass(frozen=True)
class GroupedMatmul:
    """One product an expert, `experts` of them at once, each over `rows` tokens."""

    rows: Values
    n: Values
    k: Values
    experts: Values
    operand: Literal["forward", "input", "weight"] = "forward"

    @property
    def flops(self) -> Values:
        """Multiply-adds counted as two."""
        return 2 * np.asarray(self.rows, float) * self.n * self.k * self.experts

    def backward(self) -> tuple["GroupedMatmul", ...]:
        """Gradients of the tokens and of the expert weights."""
        return (
            replace(self, n=self.k, k=self.n, operand="input"),
            replace(self, rows=self.k, k=self.rows, operand="weight"),
        )


@dataclass(frozen=True)
class Attention:
    """Fused causal attention of `query` positions over `key` positions; `window` limits how far back they see."""

    batch: Values
    query: Values
    key: Values
    heads: Values
    kv_heads: Values
    head_dim: Values
    window: Values | None = None
    gradient: bool = False

    @property
    def visible(self) -> Values:
        """Length of the unwindowed causal sequence in which a query sees as many keys as here, on average."""
        return 2 * keys_seen(np.asarray(self.key, float), np.inf if self.window is None else self.window)

    @property
    def flops(self) -> Values:
        """Two products forward; five in the backward pass, which recomputes the scores (arXiv 2205.14135)."""
        forward = attention_flops(
            np.asarray(self.batch, float), self.query, self.visible, self.heads, self.head_dim, causal=True
        )
        return forward * (BACKWARD_PRODUCTS if self.gradient else 1.0)

    def backward(self) -> tuple["Attention", ...]:
        """The one fused backward kernel."""
        return (replace(self, gradient=True),)


@dataclass(frozen=True)
class Elementwise:
    """Memory-bound `kernels` that move `size` bytes in all; their gradient moves `gradient_size`."""

    size: Values
    gradient_size: Values
    kernels: Values = 1
    gradient_kernels: Values = 1

    def backward(self) -> tuple["Elementwise", ...]:
        """The gradient pass."""
        return (Elementwise(self.gradient_size, 0.0, self.gradient_kernels),)


@dataclass(frozen=True)
class Message:
    """A collective over `degree` ranks `stride` apart; `size` in bytes as nccl-tests counts it."""

    collective: Collective
    axis: Axis
    size: Values
    degree: Values
    stride: Values
    times: Values = 1
    """How often it is sent; 0 where a plan does not use it."""
    hidden: bool = False
    """Whether it runs beside the products of input gradients, half of a backward pass."""
    copies: Values = 1
    """How often each element is in it, for as many destinations drawn among the ranks."""


Work = Matmul | GroupedMatmul | Attention | Elementwise | Message


@dataclass(frozen=True)
class Op:
    """Work of one role in one block of the model."""

    name: str
    role: Role
    phase: Phase
    work: Work
    weight: float = 1.0
    """Share of the block's layers that hold this op (sliding-window layers among global ones), or how often a head
    does it (once more for each module that predicts further)."""


def gives_weights(op: Op) -> bool:
    """Whether an op is the product that gives a linear layer's weight gradient: it can wait (arXiv 2401.10241)."""
    product = isinstance(op.work, Matmul | GroupedMatmul) and op.work.operand == "weight"
    return product and op.role != "core attention"


@dataclass(frozen=True)
class Saved:
    """Bytes one layer keeps for its backward pass, a microbatch: by kind of tensor, and what selective recomputation
    drops."""

    tensors: Mapping[TensorName, Values]
    dropped: Values
    """Part of all that selective recomputation rebuilds."""

    @property
    def kept(self) -> Values:
        """All together."""
        return sum(self.tensors.values())

    @classmethod
    def together(cls, parts: Sequence["Saved"]) -> "Saved":
        """What several parts of a layer keep."""
        tensors: dict[TensorName, Values] = {}
        for part in parts:
            for name, size in part.tensors.items():
                tensors[name] = tensors.get(name, 0.0) + size
        return cls(tensors, sum(part.dropped for part in parts))


@dataclass(frozen=True)
class Block:
    """A stack element of the model: a dense layer, a mixture-of-experts layer, the embedding or the head."""

    name: Literal["dense", "moe", "embedding", "head"]
    ops: tuple[Op, ...]
    saved: Saved
    input_size: Values
    """Bytes of the block's input, all that full recomputation keeps."""

    def phase(self, phase: Phase) -> tuple[Op, ...]:
        """Its operations in one phase."""
        return tuple(op for op in self.ops if op.phase == phase)


def both_ways(
    name: str, role: Role, work: Matmul | GroupedMatmul | Attention | Elementwise, weight: float = 1.0
) -> tuple[Op, ...]:
    """The forward op and the backward ops it implies."""
    return (
        Op(name, role, "forward", work, weight),
        *(Op(f"{name} backward", role, "backward", part, weight) for part in work.backward()),
    )


def waiting_elements(block: Block) -> NDArray[np.float64]:
    """Elements of the inputs and output gradients of a block's linear layers, which weight gradients are made from."""
    elements = np.zeros(np.shape(block.input_size))
    for op in filter(gives_weights, block.ops):
        work = op.work
        if isinstance(work, Matmul):
            elements = elements + op.weight * (np.asarray(work.m, float) + work.n) * work.k * work.batch
        elif isinstance(work, GroupedMatmul):
            elements = elements + op.weight * (np.asarray(work.rows, float) + work.n) * work.k * work.experts
    return elements
