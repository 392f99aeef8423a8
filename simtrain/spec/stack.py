"""What a training framework does: fusion, overlap, buffers. Facts about software, in profiles/stacks/*.toml."""

from typing import Annotated, Literal

from pydantic import Field

from simtrain.spec.base import Duration, Fact, Size, Spec

Fraction = Annotated[float, Field(ge=0, le=1)]
AttentionKernel = Literal["flash-2", "flash-3", "unfused"]


class Overlap(Spec):
    """Share of each communication that hides behind compute when there is enough of it."""

    gradient_reduction: Fact[Fraction]
    parameter_gathering: Fact[Fraction]
    tensor: Fact[Fraction]
    context: Fact[Fraction]
    expert: Fact[Fraction]
    pipeline: Fact[Fraction]


class Stack(Spec):
    """A training framework as the cost model sees it."""

    name: str
    title: str
    attention_kernel: Fact[AttentionKernel]
    """The newest kernel it uses; devices that cannot run it get the newest they can."""
    matmul_rate: Fact[Annotated[float, Field(gt=0, le=1.2)]]
    """Rate of its matrix-multiply library over the one the device's tables were measured with."""
    fused_elementwise: Fact[bool]
    """Bias, activation, dropout and residual fused into single passes."""
    dropout: Fact[bool]
    single_copy: Fact[bool]
    """Whether the sharded full-precision weights are the only resident copy, cast when gathered (FSDP)."""
    attention_rate: Fact[Annotated[float, Field(gt=0, le=1.5)]]
    """Rate of its attention kernels over those the device's tables were measured with."""
    gradient_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    """Bytes of an accumulated gradient element."""
    reduction_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    """Bytes of a gradient element on the wire."""
    accumulation_bytes: Fact[Annotated[float, Field(ge=0)]]
    """Traffic per parameter of adding a microbatch's gradient to the accumulated one outside the matrix multiply."""
    update_bytes: Fact[Annotated[float, Field(ge=0)]]
    """Traffic per parameter around the update: unscaling, norm, clipping, zeroing, copies back."""
    logits_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    loss_copies: Fact[Annotated[float, Field(ge=1)]]
    """Copies of the logits alive at the loss (logits, softmax, their gradient)."""
    sharding: tuple[Annotated[int, Field(ge=0, le=3)], ...]
    """State-table rows (ZeRO stages) it offers."""
    hybrid_sharding: bool
    """Whether states can be sharded over part of the data-parallel group (HSDP)."""
    sequence_parallel: bool
    filled_stages: Fact[bool] | None = None
    """Whether a pipeline stage takes layers, and the last one the head, until it has its equal share of the weights;
    None: no, layers are divided evenly whatever the ends hold."""
    scatter_gather: Fact[bool]
    """Pipeline messages split over the tensor group and gathered on arrival (SC21 section 4.1)."""
    selective: tuple[Literal["core attention", "norm", "activation"], ...]
    """Roles whose outputs selective recomputation rebuilds."""
    launch: Fact[Duration]
    """Host time to launch one kernel."""
    layer_kernels: Fact[Annotated[int, Field(ge=1)]]
    """Kernels in one dense layer's forward pass."""
    step_overhead: Fact[Duration]
    """Per step outside the model: data loading, scaler, logging, gradient-norm synchronisation."""
    late_reduction: Fact[bool] | None = None
    """With the optimizer sharded (ZeRO 1), whether all gradients are all-reduced in one call after the last backward
    pass, and all weights gathered in one; None: no, in buckets beside that pass."""
    bucket: Fact[Size]
    """Gradient or parameter bucket of one collective."""
    reserve: Fact[Size]
    """Device memory outside the allocator: driver context, libraries, communicators."""
    fragmentation: Fact[Fraction]
    """Share of allocated memory lost between blocks."""
    overlap: Overlap
