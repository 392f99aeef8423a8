"""A transformer's shape: everything the workload needs, nothing it can derive."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from simtrain.spec.base import Fact, Spec


class Experts(Spec):
    """Mixture-of-experts feed-forward of some layers."""

    count: PositiveInt
    top_k: PositiveInt
    ffn: PositiveInt
    shared_ffn: NonNegativeInt = 0
    """Width of all shared experts together."""
    shared_gate: bool = False
    """A learned scalar gate on the shared expert (Qwen2-MoE)."""
    first_dense_layers: NonNegativeInt = 0
    every: PositiveInt = 1
    """After the first dense layers, one layer in `every` holds experts."""
    router_bias: bool = False
    expert_bias: bool = False
    gated: bool | None = None
    """Whether experts are gated; None: as the model."""

    @model_validator(mode="after")
    def _top_k(self) -> Self:
        if self.top_k > self.count:
            raise ValueError("top_k must not exceed the number of experts")
        return self


class LatentAttention(Spec):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434)."""

    query_rank: NonNegativeInt
    """0: the query is projected directly."""
    key_value_rank: PositiveInt
    nope_head_dim: PositiveInt
    rope_head_dim: PositiveInt
    value_head_dim: PositiveInt

    @property
    def compressed(self) -> int:
        """Width queries, keys and values are compressed to, rotary keys included; every tensor rank holds it all."""
        return self.query_rank + self.key_value_rank + self.rope_head_dim


class Window(Spec):
    """Sliding-window attention in part of the layers."""

    size: PositiveInt
    global_every: NonNegativeInt = 0
    """One layer in `global_every` attends globally; 0: every layer is windowed."""


class Model(Spec):
    """A decoder-only transformer."""

    name: str
    layers: PositiveInt
    hidden: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    ffn: NonNegativeInt
    gated: bool
    vocabulary: PositiveInt
    maximum_positions: PositiveInt = 4096
    tied_embeddings: bool = False
    norm: Literal["layer", "rms"] = "rms"
    norms_per_layer: Annotated[int, Field(ge=1, le=4)] = 2
    norm_parameters: bool = True
    """False: norms without weights (OLMo)."""
    final_norm: bool = True
    embedding_norm: bool = False
    """A norm right after the embedding (BLOOM)."""
    qk_norm: Literal["none", "head", "full"] = "none"
    query_key_value_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    attention_sinks: bool = False
    """One learned logit a head (gpt-oss)."""
    learned_positions: NonNegativeInt = 0
    window: Window | None = None
    experts: Experts | None = None
    prediction_modules: NonNegativeInt = 0
    """Modules that each predict one token further (DeepSeek-V3, arXiv 2412.19437 section 2.2): a layer like the last
    one behind a projection of two normed hidden states; embedding and head are the model's own."""
    latent: LatentAttention | None = None
    published_parameters: Fact[Annotated[float, Field(gt=0)]] | None = None
    source: str = "stated by the user"

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads ({self.kv_heads}) must divide heads ({self.heads})")
        if self.experts is not None and self.experts.first_dense_layers > self.layers:
            raise ValueError(f"first_dense_layers must not exceed layers ({self.layers})")
        if self.moe_layers < self.layers and self.ffn == 0:
            raise ValueError("ffn must be positive where layers are dense")
        return self

    @property
    def moe_layers(self) -> int:
        """Layers whose feed-forward is a mixture of experts."""
        if self.experts is None:
            return 0
        return (self.layers - self.experts.first_dense_layers) // self.experts.every

    @property
    def prediction_layers(self) -> tuple[int, int]:
        """Layers of the modules that predict further: with a dense feed-forward, and with experts."""
        return (0, self.prediction_modules) if self.experts else (self.prediction_modules, 0)

    @property
    def gated_experts(self) -> bool:
        """Whether the feed-forward of experts, shared ones included, is gated."""
        stated = self.experts.gated if self.experts else None
        return self.gated if stated is None else stated

    @property
    def head_dims(self) -> tuple[int, int]:
        """Head sizes of queries and keys, and of values."""
        if self.latent is None:
            return self.head_dim, self.head_dim
        return self.latent.nope_head_dim + self.latent.rope_head_dim, self.latent.value_head_dim

    @property
    def windowed_layers(self) -> int:
        """Layers with sliding-window attention."""
        if self.window is None:
            return 0
        return self.layers - (self.layers // self.window.global_every if self.window.global_every else 0)
