"""A layer of a transformer as operations: attention and feed-forward.

Saved bytes follow Korthikanti et al. (arXiv 2205.05198) section 4: every tensor a backward op reads, once.
"""

from typing import Final, Literal

import numpy as np

from simtrain.spec import frozen
from simtrain.spec.tensors import TensorName
from simtrain.workload import adapters, passes
from simtrain.workload.op import Attention, Block, Elementwise, Matmul, Op, Saved, Values, both_ways
from simtrain.workload.shard import Array, Shard
from simtrain.workload.strategies import context, expert, tensor

SOFTMAX_ROWS: Final = 4
"""Multiple that Megatron-LM's fused softmax wants of a rank's sequences x heads (megatron/model/fused_softmax.py,
is_kernel_available; recalled, not opened)."""
Part = tuple[tuple[Op, ...], Saved]


def _norm(shard: Shard, name: Literal["attention", "feed-forward"]) -> Part:
    """The norms of half a layer and the residual connection after it, in the sequence-parallel region.

    A second norm of the half (after it, as in Gemma 2) saves its input only: the residual sum is what is read next.
    """
    job = shard.job
    width, stack = job.precision.activation_bytes, job.stack
    elements = shard.sequence_tokens * job.model.hidden
    size, mask = elements * width, elements if stack.dropout.value else 0.0
    norms = job.model.norms_per_layer / 2
    added = passes.residual(width, stack.fused_elementwise.value, stack.dropout.value)
    ops = (
        *both_ways(f"{name} norm", "norm", passes.norm(width, stack.fused_norm.value).over(norms * elements)),
        *both_ways(f"{name} residual", "residual", added.over(elements)),
    )
    output = min(norms, 1.0) * elements * job.precision.matmul_input_bytes * job.trained(name)
    entered = min(norms, 1.0) * size if name == "attention" else 0.0
    middle = norms * size - entered
    parts: dict[TensorName, Values] = {"input": entered, "middle": middle, "normed": output, "masks": mask}
    return ops, Saved(parts, output * stack.rebuilt("norm"))


def _core_attention(shard: Shard, fused: bool) -> Part:
    """Scores, softmax and weighted values; windowed and global layers by their share of the stack."""
    model, plans, width = shard.job.model, shard.plans, shard.job.precision.activation_bytes
    batch, sequence = plans.micro_batch, shard.job.sequence
    heads, kv_heads = shard.heads / plans.cp_head, np.maximum(shard.kv_heads / plans.cp_head, 1.0)
    query = sequence / plans.cp_ring
    head_dim, value_dim = shard.job.model.head_dims
    output = shard.tokens * shard.heads * value_dim * width
    if not fused:
        scores = batch * heads * query * sequence
        dropout = shard.job.stack.dropout.value
        softmax = _softmax(shard, scores, heads)
        ops = (
            *both_ways("scores", "core attention", Matmul(query, sequence, head_dim, batch * heads, sensitive=True)),
            *both_ways("softmax", "core attention", softmax),
            *both_ways(
                "weighted values",
                "core attention",
                Matmul(query, value_dim, sequence, batch * heads, sensitive=True),
            ),
            *both_ways("heads joined", "core attention", Elementwise(2 * output, 2 * output)),
        )
        kept = scores * (2 * width + 1 if dropout else width)
        return ops, Saved({"attention": kept + output}, kept * shard.job.stack.rebuilt("core attention"))
    windowed = model.windowed_layers / model.layers
    shapes = [(1 - windowed, None), (windowed, model.window.size if model.window else None)]
    kernel_dim = (head_dim + value_dim) / 2
    ops = tuple(
        op
        for share, window in shapes
        if share
        for op in both_ways(
            "windowed attention" if window else "attention",
            "core attention",
            Attention(batch, query, sequence, heads, kv_heads, kernel_dim, window),
            share,
        )
    )
    attended = output + 4 * batch * heads * query
    return ops, Saved({"attention": attended}, attended * shard.job.stack.rebuilt("core attention"))


def _softmax(shard: Shard, scores: Array, heads: Array) -> Elementwise:
    """Softmax of the scores: by the fused kernel where the stack has one and it takes the shape, else eager."""
    width, stack = shard.job.precision.activation_bytes, shard.job.stack
    one, many = (passes.softmax(width, fused, stack.dropout.value).over(scores) for fused in (True, False))
    fits = shard.plans.micro_batch * heads % SOFTMAX_ROWS == 0
    fused = fits & (stack.attention_kernel.value != "eager")
    return Elementwise(*(np.where(fused, getattr(one, name), getattr(many, name)) for name in vars(one)))


def _bias_gradient(shard: Shard, part: frozen.Part, name: str, biased: bool, width: Array | float) -> tuple[Op, ...]:
    """The pass over an output's gradient that sums it into its bias; adding the bias rides on other passes."""
    share = shard.job.trained(part)
    if not biased or not share:
        return ()
    size = shard.tokens * width * shard.job.precision.activation_bytes
    return (Op(f"{name} bias backward", "projection", "backward", Elementwise(size, 0.0), share),)


def _projections(shard: Shard) -> Part:
    """Query, key and value projections and what they save besides their input.

    Latent attention compresses first, every tensor rank with the whole (replicated) down projection over its positions.
    """
    model, precision = shard.job.model, shard.job.precision
    tokens, hidden = shard.tokens, model.hidden
    latent = model.latent
    query_dim = model.head_dims[0]
    heads = shard.heads
    if latent is None:
        wide = (heads + 2 * shard.kv_heads) * model.head_dim
        ops = both_ways("query key value", "projection", Matmul(tokens, wide, hidden))
        ops += _bias_gradient(shard, "attention", "query key value", model.query_key_value_bias, wide)
        ops += shard.narrowed("query key value", shard.narrowed_tokens * hidden, tokens * wide)
        projected = tokens * wide * precision.activation_bytes
        return ops, Saved({"projected": projected}, projected * shard.job.stack.rebuilt("projection"))
    ranks = latent.compressed
    direct = heads * query_dim
    up_width = heads * (latent.nope_head_dim + latent.value_head_dim)
    ops = (
        *both_ways("latent down", "projection", Matmul(shard.sequence_tokens, ranks, hidden)),
        *both_ways("key value up", "latent up", Matmul(tokens, up_width, latent.key_value_rank)),
    )
    ops += both_ways("query up", "latent up", Matmul(tokens, direct, latent.query_rank or hidden))
    ops += shard.narrowed("latent down", shard.sequence_tokens * hidden, shard.sequence_tokens * ranks)
    ops += shard.narrowed("latent up", tokens * ranks, tokens * (direct + up_width))
    raised = tokens * (direct + up_width) * precision.activation_bytes
    stack, latents = shard.job.stack, tokens * ranks * precision.matmul_input_bytes
    dropped = latents * stack.rebuilt("projection") + raised * stack.rebuilt("latent up")
    return ops, Saved({"projected": latents + raised}, dropped)


def _attention(shard: Shard, fused: bool) -> Part:
    model, precision, stack = shard.job.model, shard.job.precision, shard.job.stack
    projections, projected = _projections(shard)
    core, core_saved = _core_attention(shard, fused)
    query_dim, value_dim = shard.job.model.head_dims
    rotating = model.latent.rope_head_dim if model.latent else query_dim
    elements, width = shard.tokens * (shard.heads + shard.kv_heads), precision.activation_bytes
    turned = passes.rotary(width, stack.fused_elementwise.value).over(elements * rotating)
    rotary = () if model.learned_positions else both_ways("rotary", "norm", turned)
    normed = elements * rotating if model.qk_norm != "none" else 0.0
    key_norm = both_ways("query key norm", "norm", passes.norm(width, stack.fused_norm.value).over(normed))
    unnormed = normed * width
    norm, norm_saved = _norm(shard, "attention")
    outside = adapters.Side(model.hidden, shard.sequence_tokens)
    read = adapters.Side(shard.heads * query_dim + shard.kv_heads * (query_dim + value_dim), shard.tokens)
    joined = adapters.Side(shard.heads * value_dim, shard.tokens)
    ops = (
        *norm,
        *tensor.boundary(shard, "attention", "projection"),
        *projections,
        *adapters.beside(shard, "query key value", outside, read),
        *(key_norm if model.qk_norm != "none" else ()),
        *rotary,
        *context.messages(shard, query_dim, value_dim),
        *core,
        *both_ways("output", "projection", Matmul(shard.tokens, model.hidden, shard.heads * value_dim)),
        *shard.narrowed("output", joined.elements, shard.narrowed_tokens * model.hidden),
        *adapters.beside(shard, "output", joined, outside),
        *_bias_gradient(shard, "attention", "output", model.output_bias, model.hidden),
    )
    adapted = adapters.saved(shard.job, outside) + adapters.saved(shard.job, joined)
    beside = Saved({"projected": unnormed, "adapters": adapted}, unnormed * stack.rebuilt("norm"))
    return ops, Saved.together((norm_saved, projected, core_saved, beside))


def _entered(shard: Shard, gated: bool) -> int:
    """Products that read the input of a feed-forward."""
    return 2 if gated and shard.job.stack.gate_apart.value else 1


def _mlp(shard: Shard, ffn: int, gated: bool, name: str) -> Part:
    """A dense feed-forward of width `ffn` over the tensor axis."""
    job = shard.job
    width, halves = job.precision.activation_bytes, 2 if gated else 1
    local = ffn / shard.plans.tp
    products = _entered(shard, gated)
    between = shard.tokens * local * job.stack.expanded_bytes(width)
    outside = shard.narrowed_tokens * job.model.hidden
    activation = passes.activation(width, gated, job.stack.fused_elementwise.value).over(shard.tokens * local)
    up = Matmul(shard.tokens, halves / products * local, job.model.hidden)
    ops = (
        *both_ways(f"{name} up", "projection", up, products),
        *both_ways(f"{name} activation", "activation", activation),
        *both_ways(f"{name} down", "projection", Matmul(shard.tokens, job.model.hidden, local)),
        *shard.narrowed(f"{name} up", outside, halves * shard.tokens * local),
        *shard.narrowed(f"{name} down", shard.tokens * local, outside),
        *_bias_gradient(shard, "feed-forward", name, job.model.mlp_bias, halves * local + job.model.hidden),
    )
    activated = shard.tokens * local * job.precision.matmul_input_bytes * job.trained("feed-forward")
    dropped = activated * job.stack.rebuilt("activation") + halves * between * job.stack.rebuilt("projection")
    return ops, Saved({"expanded": halves * between, "activated": activated}, dropped)


def _besides(shard: Shard, moe: bool, fused_attention: bool) -> Saved:
    """What the stack's kernels keep beside the inputs of backward ops (spec.stack.Kept)."""
    job, model, plans, kept = shard.job, shard.job.model, shard.plans, shard.job.stack.kept
    positions = shard.sequence_tokens * model.hidden
    gathered = (shard.tokens * model.hidden - positions) * kept.gathered.value
    normed = model.norms_per_layer * positions * kept.norm.value + gathered
    query, value = model.head_dims
    packed = shard.tokens * (shard.heads * query + shard.kv_heads * (query + value)) * kept.attention.value
    scores = plans.micro_batch * shard.heads / plans.cp_head * job.sequence / plans.cp_ring * job.sequence
    viewed = model.latent is None and model.kv_heads == model.heads
    packed += shard.tokens * shard.kv_heads * (query + value) * kept.packed.value * viewed
    core = packed + scores * (0.0 if fused_attention else kept.scores.value)
    activated = expert.gates(shard) if moe else shard.tokens * model.ffn / plans.tp * model.gated
    gates = activated * kept.gate.value
    roles = {"norm": normed, "core attention": core, "activation": gates}
    dropped = sum(size * job.stack.rebuilt(role) for role, size in roles.items())
    return Saved({"normed": normed, "attention": core, "activated": gates}, dropped)


def layer(shard: Shard, moe: bool, fused_attention: bool) -> Block:
    """One transformer layer, with a dense or a mixture-of-experts feed-forward."""
    model = shard.job.model
    norm, norm_saved = _norm(shard, "feed-forward")
    parts = [_attention(shard, fused_attention), (norm, norm_saved), ((), _besides(shard, moe, fused_attention))]
    if moe:
        parts.append(expert.feed_forward(shard))
        if model.experts and model.experts.shared_ffn:
            entered = _entered(shard, model.gated_experts)
            parts.append((tensor.boundary(shard, "shared expert", "projection", entered), Saved({}, 0.0)))
            parts.append(_mlp(shard, model.experts.shared_ffn, model.gated_experts, "shared expert"))
    else:
        entered = _entered(shard, model.gated)
        parts.append((tensor.boundary(shard, "feed-forward", "projection", entered), Saved({}, 0.0)))
        parts.append(_mlp(shard, model.ffn, model.gated, "feed-forward"))
    saved = Saved.together([saved for _, saved in parts])
    attention, *rest = (ops for ops, _ in parts)
    ops = adapters.needed(shard.job, "attention", attention)
    ops += adapters.needed(shard.job, "feed-forward", (op for part in rest for op in part))
    input_size = shard.sequence_tokens * model.hidden * shard.job.precision.activation_bytes
    return Block("moe" if moe else "dense", ops, saved, input_size)
