"""Model FLOP of one sequence of a job's model, by the two conventions people quote."""

from typing import Final

from simtrain.laws.flops import training_flops
from simtrain.spec.frozen import Freeze, Part
from simtrain.spec.model import Model
from simtrain.workload.parameters import parameters

NOTHING: Final[Freeze] = {}


def model_flops(model: Model, sequence: int, causal: bool, frozen: Freeze = NOTHING) -> float:
    """FLOP to train on one sequence (forward and backward, no recomputation); experts count by what a token visits.

    Sliding-window layers see at most the window; with `causal` False attention counts the full square, as most
    published MFU figures do, and windowed layers their window for every query. `frozen`: share of each part without
    gradient.
    """
    counts = parameters(model)
    further_dense, further_moe = model.prediction_layers
    moe, layers = model.moe_layers + further_moe, model.layers + model.prediction_modules
    visited = 0.0
    if model.experts is not None:
        visited = model.experts.top_k * counts.expert + counts.shared_expert + counts.router
    head = counts.embedding if model.tied_embeddings else counts.head
    dense = model.layers - model.moe_layers + further_dense
    weights: dict[Part, float] = {
        "attention": layers * counts.attention,
        "feed-forward": dense * counts.dense_mlp + moe * visited,
        "head": (1 + model.prediction_modules) * head + model.prediction_modules * counts.prediction,
    }
    still = sum(frozen.get(part, 0.0) * count for part, count in weights.items())
    head_dim = sum(model.head_dims) / 2
    windowed = model.windowed_layers
    seen = 1.0
    if model.window is not None:
        reach = min(model.window.size / sequence, 1.0)
        seen = 2 * reach - reach**2 if causal else reach
    width = model.heads * head_dim * (layers - windowed + windowed * seen)
    return training_flops(sum(weights.values()), width, sequence, causal, still)
