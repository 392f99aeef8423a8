"""What a training framework does: fusion, overlap, buffers. Facts about software, in profiles/stacks/*.toml."""

from typing import Annotated, Literal

from pydantic import Field

from simtrain.spec.base import Duration, Fact, Size, Spec

Fraction = Annotated[float, Field(ge=0, le=1)]
AttentionKernel = Literal["flash-1", "flash-2", "flash-3", "unfused", "eager"]


class Overlap(Spec):
    """Share of each communication that hides behind compute when there is enough of it."""

    gradient_reduction: Fact[Fraction]
    parameter_gathering: Fact[Fraction]
    tensor: Fact[Fraction]
    context: Fact[Fraction]
    expert: Fact[Fraction]
    pipeline: Fact[Fraction]


class Experts(Spec):
    """How a framework runs the experts of a layer."""

    dispatcher: Fact[Literal["every copy", "once a rank"]]
    """Whether a token is sent once for each of its experts, or once to each rank that holds some of them and, between
    scale-up domains, once to each domain, to be forwarded there (DeepEP, HybridEP)."""
    overlap_across: Fact[Fraction]
    """As overlap.expert, where the exchange leaves a scale-up domain."""
    fused: Fact[bool]
    """Activation and the narrowing of its result and gradient happen inside the grouped products."""
    kernels: Fact[Annotated[int, Field(ge=0)]]
    """Kernels of a forward pass through router, exchange and experts that do not depend on how many there are."""
    kernels_each: Fact[Annotated[int, Field(ge=0)]]
    """Kernels of a forward pass for each expert a rank holds; 0 where one grouped kernel runs all of them."""


class Stack(Spec):
    """A training framework as the cost model sees it."""

    name: str
    title: str
    attention_kernel: Fact[AttentionKernel]
    """The newest kernel it uses; devices that cannot run it get the newest they can. Unfused: products around a fused
    scaled, masked softmax; eager: a kernel for each step of the softmax, too."""
    matmul_rate: Fact[Annotated[float, Field(gt=0, le=1.2)]]
    """Rate of its matrix-multiply library over the one the device's tables were measured with."""
    fused_elementwise: Fact[bool]
    """Bias, activation, rotary, dropout and residual fused into single passes."""
    fused_norm: Fact[bool]
    """Norms are one kernel rather than a kernel for each step."""
    dropout: Fact[bool]
    single_copy: Fact[bool]
    """Whether the sharded full-precision weights are the only resident copy, cast when gathered (FSDP)."""
    gradient_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    """Bytes of an accumulated gradient element."""
    reduction_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    """Bytes of a gradient element on the wire."""
    accumulation_bytes: Fact[Annotated[float, Field(ge=0)]]
    """Traffic per parameter of adding a microbatch's gradient to the accumulated one outside the matrix multiply."""
    update_bytes: Fact[Annotated[float, Field(ge=0)]]
    """Traffic per parameter around the update: unscaling, norm, clipping, zeroing, copies back."""
    vocabulary_padding: Fact[Literal["always", "when split", "never"]]
    """Whether the head has more columns than the vocabulary, to fit tensor cores: also, or only, with tensor ranks."""
    logits_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    loss_copies: Fact[Annotated[float, Field(ge=1)]]
    """Copies of the logits alive at the loss (logits, softmax, their gradient)."""
    sharding: tuple[Annotated[int, Field(ge=0, le=3)], ...]
    """State-table rows (ZeRO stages) it offers."""
    hybrid_sharding: bool
    """Whether states can be sharded over part of the data-parallel group (HSDP)."""
    sequence_parallel: bool
    scatter_gather: Fact[bool]
    """Pipeline messages split over the tensor group and gathered on arrival (SC21 section 4.1)."""
    selective: tuple[Literal["core attention", "norm", "activation", "latent up"], ...]
    """Roles whose outputs selective recomputation rebuilds; `latent up`: what latent attention makes of its latents."""
    launch: Fact[Duration]
    """Host time to launch one kernel."""
    layer_kernels: Fact[Annotated[int, Field(ge=1)]]
    """Kernels in one dense layer's forward pass, a single one for each element-wise step; backward has twice as many."""
    collective_wait: Fact[Duration]
    """Spread (one standard deviation) of the moments at which ranks arrive at a blocking collective in a layer."""
    microbatch_overhead: Fact[Duration]
    """Host time a stage takes for each microbatch that hides behind nothing: data, blocking hand-over, bookkeeping."""
    step_overhead: Fact[Duration]
    """Per step outside the model: data loading, scaler, logging, gradient-norm synchronisation."""
    bucket: Fact[Size]
    """Gradient or parameter bucket of one collective."""
    reserve: Fact[Size]
    """Device memory outside the allocator: driver context, libraries, communicators."""
    fragmentation: Fact[Fraction]
    """Share of allocated memory lost between blocks."""
    overlap: Overlap
    experts: Experts | None = None
    """None: nothing is known about it; every copy is sent and no kernel is counted."""
