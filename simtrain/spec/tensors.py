"""Kinds of tensors a layer keeps for its backward pass."""

from typing import Final, Literal, get_args

TensorName = Literal[
    "input",
    "normed",
    "projected",
    "attention",
    "middle",
    "routed",
    "expanded",
    "activated",
    "masks",
    "adapters",
    "head",
    "loss",
]
TENSORS: Final[tuple[TensorName, ...]] = get_args(TensorName)
TITLES: Final[dict[TensorName, str]] = {
    "input": "the layer's input",
    "normed": "outputs of norms",
    "projected": "queries, keys and values",
    "attention": "output of core attention (and scores, where they are kept)",
    "middle": "the residual stream between attention and feed-forward, and inputs of norms after a half",
    "routed": "tokens sent to experts and returned",
    "expanded": "outputs of a feed-forward's first product",
    "activated": "what enters its second",
    "masks": "dropout masks",
    "adapters": "what low-rank adapters read",
    "head": "what the head reads, and its weights' gradient",
    "loss": "logits, or their gradient",
}
