"""How many weights a model has, and where: the integers that memory, traffic and FLOPs are built on."""

from dataclasses import dataclass

from simtrain.spec.model import Experts, LatentAttention, Model


@dataclass(frozen=True)
class Parameters:
    """Weights of each part of a model, as counts.

    A layer has `attention`, `layer_norms` and either `dense_mlp` or, in a mixture-of-experts layer, `router`,
    `shared_expert` and `experts.count` times `expert`. The rest exists once in the model.
    """

    attention: int
    """One layer's projections, their biases and its sinks."""
    dense_mlp: int
    """The feed-forward of one dense layer."""
    expert: int
    """One routed expert of one layer."""
    shared_expert: int
    """All shared experts of one layer and their gate."""
    router: int
    layer_norms: int
    """Norm weights of one layer, those on queries, keys and latents included."""
    embedding: int
    positions: int
    final_norm: int
    """The norm before the head and, where there is one, the norm after the embedding."""
    head: int
    """The output projection; 0 when it is the embedding."""
    prediction: int
    """What one module that predicts further has besides its layer: a projection and three norms."""


def parameters(model: Model) -> Parameters:
    """Weights of each part of `model`.

    Counts every entry of every weight and bias; a gated feed-forward has three matrices (arXiv 2002.05202).
    Shapes: Vaswani et al. 2017 (arXiv 1706.03762); latent attention: DeepSeek-V2 (arXiv 2405.04434, section 2.1).
    """
    norm = _norm(model, model.hidden)
    query_key = _norm(model, model.head_dim) * 2 if model.qk_norm == "head" else 0
    if model.qk_norm == "full":
        query_key = _norm(model, model.heads * model.head_dim) + _norm(model, model.kv_heads * model.head_dim)
    if model.latent is not None:
        query_key += _norm(model, model.latent.query_rank) + _norm(model, model.latent.key_value_rank)
    head_bias = model.vocabulary if model.head_bias else 0
    return Parameters(
        attention=_attention(model) if model.latent is None else _latent_attention(model, model.latent),
        dense_mlp=_mlp(model.hidden, model.ffn, gated=model.gated, bias=model.mlp_bias),
        expert=_expert(model, model.experts) if model.experts else 0,
        shared_expert=_shared_expert(model, model.experts) if model.experts else 0,
        router=model.experts.count * (model.hidden + model.experts.router_bias) if model.experts else 0,
        layer_norms=model.norms_per_layer * norm + query_key,
        embedding=model.vocabulary * model.hidden,
        positions=model.learned_positions * model.hidden,
        final_norm=(model.final_norm + model.embedding_norm) * norm,
        head=(0 if model.tied_embeddings else model.vocabulary * model.hidden) + head_bias,
        prediction=2 * model.hidden**2 + 3 * norm,
    )


def total(model: Model) -> int:
    """All weights of `model`."""
    return _sum(model, model.experts.count if model.experts else 0)


def active(model: Model) -> int:
    """Weights one token meets: `top_k` routed experts a layer, the shared ones, and the whole embedding."""
    return _sum(model, model.experts.top_k if model.experts else 0)


def _sum(model: Model, experts: int) -> int:
    parts = parameters(model)
    mixture = parts.router + parts.shared_expert + experts * parts.expert
    further_dense, further_moe = model.prediction_layers
    layers = (
        (model.layers + model.prediction_modules) * (parts.attention + parts.layer_norms)
        + (model.layers - model.moe_layers + further_dense) * parts.dense_mlp
        + (model.moe_layers + further_moe) * mixture
        + model.prediction_modules * parts.prediction
    )
    return layers + parts.embedding + parts.positions + parts.final_norm + parts.head


def _norm(model: Model, width: int) -> int:
    return width * {"layer": 2, "rms": 1}[model.norm] if model.norm_parameters else 0


def _attention(model: Model) -> int:
    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    matrices = 2 * model.hidden * (queries + keys)
    biases = (queries + 2 * keys) * model.query_key_value_bias + model.hidden * model.output_bias
    return matrices + biases + model.heads * model.attention_sinks


def _latent_attention(model: Model, latent: LatentAttention) -> int:
    queries = model.heads * (latent.nope_head_dim + latent.rope_head_dim)
    rank = latent.query_rank
    query = rank * (model.hidden + queries) if rank else model.hidden * queries
    down = model.hidden * (latent.key_value_rank + latent.rope_head_dim)
    up = latent.key_value_rank * model.heads * (latent.nope_head_dim + latent.value_head_dim)
    return query + down + up + model.heads * latent.value_head_dim * model.hidden


def _mlp(hidden: int, ffn: int, *, gated: bool, bias: bool) -> int:
    inputs = 2 if gated else 1
    return (inputs + 1) * hidden * ffn + (inputs * ffn + hidden) * bias


def _expert(model: Model, experts: Experts) -> int:
    return _mlp(model.hidden, experts.ffn, gated=model.gated_experts, bias=experts.expert_bias)


def _shared_expert(model: Model, experts: Experts) -> int:
    if not experts.shared_ffn:
        return 0
    mlp = _mlp(model.hidden, experts.shared_ffn, gated=model.gated_experts, bias=experts.expert_bias)
    return mlp + model.hidden * experts.shared_gate
