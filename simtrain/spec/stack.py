"""What a training framework does: fusion, overlap, buffers. Facts about software, in profiles/stacks/*.toml."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from simtrain.spec.base import Duration, Evidence, Fact, Size, Spec
from simtrain.spec.placement import placement
from simtrain.spec.schedule import Schedule

Fraction = Annotated[float, Field(ge=0, le=1)]
PartlyRebuilt = Literal["projection", "core attention", "norm", "activation", "residual", "gather"]
Selective = Literal["core attention", "norm", "activation", "latent up"]
Bytes = Annotated[float, Field(ge=0)]
Placement = Annotated[str, AfterValidator(placement)]
AttentionKernel = Literal["flash-1", "flash-2", "flash-3", "unfused", "eager"]
Dispatcher = Literal["every copy", "once a rank"]
Division = Literal["even", "by cost", "with ends"]


def usual(value: Any) -> Any:
    """What a stack does that says nothing else: a default with its source."""
    return Field(default=Fact(value=value, source="what most stacks do", evidence=Evidence.ASSUMED))


class Overlap(Spec):
    """Share of each communication that hides behind compute when there is enough of it."""

    gradient_reduction: Fact[Fraction]
    parameter_gathering: Fact[Fraction]
    tensor: Fact[Fraction]
    context: Fact[Fraction]
    expert: Fact[Fraction]
    pipeline: Fact[Fraction]


class Messages(Spec):
    """How sharded states travel between their ranks."""

    layer: Fact[Annotated[int, Field(ge=1)]] = usual(1)
    """Collectives one layer's states take where parameters are sharded: its tensors, or 1 for a flat layer."""
    member: Fact[Duration] = usual(0.0)
    """What a collective costs for each of its ranks on top, where the library is handed a list of pieces."""
    gathered_to_rebuild: Fact[bool] = usual(False)
    """Whether a layer recomputed in full is gathered for it, dropped, and gathered again for its gradients."""
    broadcast: Fact[bool] = usual(False)
    """Updated weights (ZeRO 1, 2) sent out by the rank that owns them, tensor by tensor, instead of gathered."""

    prefetched: Fact[Annotated[int, Field(ge=0)]] = usual(1)
    """Layers whose sharded weights are gathered ahead of the one that runs."""
    received_ahead: Fact[bool] = usual(False)
    """Whether a stage holds a buffer for the messages of every microbatch of a step (torch.distributed.pipelining)."""
    by_block: Fact[bool] = usual(False)
    """One collective a layer, embedding or head, whatever their size, in place of buckets (fully_shard on each)."""
    gathered_again: Fact[bool] = usual(True)
    """Whether sequence parallelism gathers a product's input once more for its weight gradient, or keeps it whole."""


class Kept(Spec):
    """What stays for the backward pass beside the inputs that its products and fused kernels read, in bytes."""

    norm: Fact[Bytes] = usual(0.0)
    """An element of a norm's input: intermediates of an eager norm."""
    gate: Fact[Bytes] = usual(0.0)
    """An element of the activated gate of a feed-forward whose product with the other half is a kernel of its own."""
    attention: Fact[Bytes] = usual(0.0)
    """An element of queries, keys and values: a packed copy of them."""
    scores: Fact[Bytes] = usual(0.0)
    """An attention score, where attention is not fused."""
    expanded: Fact[Bytes] | None = None
    """An element that a feed-forward's activation reads, in place of the activations' own format; None: that."""
    gathered: Fact[Bytes] = usual(0.0)
    """An element of the hidden state that other tensor ranks hold: inputs of products that are not gathered again."""
    packed: Fact[Bytes] = usual(0.0)
    """An element of keys and values that stays as queries are a view of one tensor of all three (as many heads)."""
    reduced: Fact[Bytes] = usual(0.0)
    """An element of the whole hidden state: what reduce-scatters of a layer over tensor ranks read on another stream.
    Freed, it can be taken again only once the device has passed them (timeline.memory)."""


class Experts(Spec):
    """How a framework runs the experts of a layer."""

    dispatcher: Fact[Dispatcher]
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
    gate_apart: Fact[bool] = usual(False)
    """Gate and up projections of a feed-forward are two products; the gradients of their input are reduced apart."""
    dropout: Fact[bool]
    keys_repeated: Fact[bool] = usual(False)
    """Keys and values are copied for every query head before attention, and travel so between context ranks."""
    ring_gradient_bytes: Fact[Annotated[int, Field(ge=0, le=4)]] = usual(0)
    """Of an element of keys' and values' gradients on their way around a ring; 0: as wide as activations."""
    single_copy: Fact[bool]
    """Whether the sharded full-precision weights are the only resident copy, cast when gathered (FSDP)."""
    gradient_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    """Bytes of an accumulated gradient element."""
    reduction_copy: Fact[Bytes] = usual(0.0)
    """Bytes a parameter of buffers that gradients are copied to for their reduction."""
    reduction_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    """Bytes of a gradient element on the wire."""
    accumulation_bytes: Fact[Annotated[float, Field(ge=0)]]
    """Traffic per parameter of adding a microbatch's gradient to the accumulated one outside the matrix multiply."""
    cast_bytes: Fact[Annotated[float, Field(ge=0)]] = usual(0.0)
    """Traffic per parameter of casting a weight as a microbatch reads it, and its gradient back; none in 32 bits."""
    update_bytes: Fact[Annotated[float, Field(ge=0)]]
    """Traffic per parameter around the update: unscaling, norm, clipping, zeroing, copies back."""
    vocabulary_padding: Fact[Literal["always", "when split", "never"]]
    """Whether the head has more columns than the vocabulary, to fit tensor cores: also, or only, with tensor ranks."""
    logits_bytes: Fact[Annotated[int, Field(ge=2, le=4)]]
    logits_gathered: Fact[bool] = usual(False)
    """Every tensor rank computes the loss of the whole vocabulary instead of its part."""
    loss_copies: Fact[Annotated[float, Field(ge=1)]]
    """Copies of the logits alive at the loss (logits, softmax, their gradient)."""
    head_gradient: Fact[Bytes] = usual(0.0)
    """Bytes a weight of the head that its gradient takes, beside the accumulated one, while it is computed."""
    sharding: tuple[Annotated[int, Field(ge=0, le=3)], ...]
    """State-table rows (ZeRO stages) it offers."""
    hybrid_sharding: bool
    """Whether states can be sharded over part of the data-parallel group (HSDP)."""
    whole_in_pipeline: Fact[bool] = usual(False)
    """Whether, with several stages, sharded weights stay gathered and gradients whole from microbatch to microbatch."""
    sequence_parallel: bool
    schedules: Annotated[tuple[Schedule, ...], Field(min_length=1)]
    """Pipeline schedules it offers."""
    offload: tuple[Placement, ...] = ()
    """Placements of states off the device (spec.placement) that a search tries."""
    offload_asked: tuple[Placement, ...] = ()
    """Those it offers besides, for whoever asks."""
    post_validation: bool
    """Whether a stage updates its weights before all gradients are known to be sound, and repairs the rare case that
    they are not (arXiv 2401.10241 section 4), so that no stage waits for the others at the end of a step."""
    scatter_gather: Fact[bool]
    """Pipeline messages split over the tensor group and gathered on arrival (SC21 section 4.1)."""
    gradients_whole: Fact[bool] = usual(False)
    """Whether only activations are split so, and gradients go to the stage before as they are."""
    exchanged_in_turn: Fact[bool] = usual(False)
    """Whether a stage sends to a neighbour and receives from it one after the other rather than at once."""
    message_overhead: Fact[Duration] = usual(0.0)
    """What a message between stages takes besides its bytes: calls that block, synchronisation."""
    selective: tuple[Selective, ...]
    """Roles whose outputs selective recomputation rebuilds; `latent up`: what latent attention makes of its latents."""
    selective_part: dict[PartlyRebuilt, Fraction] = Field(default={})
    """Of other roles, the share that selective recomputation rebuilds: some of the products, or every n-th block;
    `gather`: of what tensor ranks gather for products."""
    division: Fact[Division] = usual("even")
    """How layers are divided over pipeline stages: by their number, by the weights of layers and head, or by number
    with embedding, final norm and head among them."""
    launch: Fact[Duration]
    """Host time to launch one kernel."""
    layer_kernels: Fact[Annotated[int, Field(ge=1)]]
    """Kernels in one dense layer's forward pass, one an element-wise step; its backward pass has twice as many."""
    collective_wait: Fact[Duration]
    """Spread (one standard deviation) of the moments at which ranks arrive at a blocking collective in a layer."""
    rebuild_wait: Fact[Duration] = usual(0.0)
    """Spread (one standard deviation) of the moments at which tensor ranks are ready for a backward pass that rebuilds
    layers in full, once a microbatch."""
    microbatch_overhead: Fact[Duration]
    """Host time a stage takes for each microbatch that hides behind nothing: data, blocking hand-over, bookkeeping."""
    microbatch_gap: Fact[Duration] = usual(0.0)
    """Host time between microbatches besides, which passes while a stage waits for its neighbours."""
    step_overhead: Fact[Duration]
    """Per step outside the model: data loading, scaler, logging, gradient-norm synchronisation."""
    late_reduction: Fact[bool] = usual(False)
    """With the optimizer sharded (ZeRO 1), whether all gradients are all-reduced in one call after the last backward
    pass, and all weights gathered in one; else in buckets beside that pass."""
    bucket: Fact[Size]
    """Gradient or parameter bucket of one collective, closed by the tensor that fills it."""
    reserve: Fact[Size]
    """Device memory outside the allocator: driver context, libraries, communicators."""
    fragmentation: Fact[Fraction]
    """Share of allocated memory lost between blocks."""
    data_overlap: Fact[Annotated[float, Field(gt=0, le=2)]] = usual(1.0)
    """What contention for processors and memory leaves of the stated overlaps of gradient reduction and gathering."""
    messages: Messages = Messages()
    kept: Kept = Kept()
    overlap: Overlap
    experts: Experts | None = None
    """None: nothing is known about it; every copy is sent, put in order once, and no kernel is counted."""

    def expanded_bytes(self, activation_bytes: float) -> float:
        """Bytes kept of an element that a feed-forward's activation reads."""
        return activation_bytes if self.kept.expanded is None else self.kept.expanded.value

    def hidden(self, communication: Literal["gradient_reduction", "parameter_gathering"]) -> float:
        """Share of a data-parallel communication that hides behind compute, under contention."""
        stated: float = getattr(self.overlap, communication).value
        return min(stated * self.data_overlap.value, 1.0)

    def rebuilt(self, role: str) -> float:
        """Share of a role's operations that selective recomputation runs again."""
        part = next((share for partly, share in self.selective_part.items() if partly == role), 0.0)
        return 1.0 if role in self.selective else part
