"""Model shapes as models.json states them, turned into Models."""

import re
from collections.abc import Mapping
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.base import checked
from simtrain.spec.model import Model

_LATENT: Final = re.compile(r"^MLA \((?:q_lora (\d+|none|null), )?kv_lora (\d+), qk (\d+)\+(\d+), v (\d+)\)$")
_PLAIN: Final = {
    "norm": "layer",
    "query_key_value_bias": True,
    "output_bias": True,
    "mlp_bias": True,
}
"""What a model without gated feed-forward is taken to have besides: GPT-2's block (Radford et al. 2019), as the
parameter counts printed in models.json confirm."""


def shape(name: str, stated: Mapping[str, Any], sequence: int) -> Model:
    """The model of one entry of models.json, trained on `sequence` positions; WrongInput with what is wrong with it.

    Shapes without gated feed-forward learn one embedding a position, have biases and, unless they say otherwise, share
    embedding and head; gated ones are Llama-like.
    """
    heads, hidden = stated.get("heads"), stated.get("hidden")
    head_dim = stated.get("head_dim")
    if not head_dim and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        head_dim = hidden // heads
    data: dict[str, Any] = {
        "name": name,
        "layers": stated.get("layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": stated.get("kv_heads") or heads,
        "head_dim": head_dim,
        "ffn": stated.get("ffn") or 0,
        "gated": stated.get("gated_mlp"),
        "vocabulary": stated.get("vocab"),
        "maximum_positions": sequence,
        "prediction_modules": stated.get("prediction_modules") or 0,
        "tied_embeddings": bool(stated.get("tied_embeddings", stated.get("gated_mlp") is False)),
        "source": "models.json of the published runs",
    }
    if stated.get("gated_mlp") is False:
        data |= _PLAIN | {"learned_positions": sequence}
    experts = stated.get("moe")
    if experts and not isinstance(experts, Mapping):
        raise WrongInput([Problem(f"models.json {name}.moe", experts, "is no table")])
    if experts:
        data["experts"] = _experts(experts)
        latent = _latent(str(experts.get("attention") or ""), name)
        if latent:
            data["latent"] = latent
    return checked(Model, data, f"models.json {name}")


def _experts(stated: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "count": stated.get("experts"),
        "top_k": stated.get("top_k"),
        "ffn": stated.get("expert_ffn"),
        "shared_ffn": stated.get("shared_ffn") or 0,
        "first_dense_layers": stated.get("first_dense_layers") or 0,
        "every": stated.get("moe_every") or 1,
    }


def _latent(words: str, name: str) -> dict[str, int] | None:
    """Ranks of multi-head latent attention written as `MLA (q_lora 1536, kv_lora 512, qk 128+64, v 128)`."""
    if "MLA" not in words:
        return None
    match = _LATENT.match(words)
    if match is None:
        raise WrongInput([Problem(f"models.json {name}.moe.attention", words, "is not understood")])
    query, key_value, nope, rope, value = match.groups()
    return {
        "query_rank": int(query) if query and query.isdecimal() else 0,
        "key_value_rank": int(key_value),
        "nope_head_dim": int(nope),
        "rope_head_dim": int(rope),
        "value_head_dim": int(value),
    }
