"""Expert parallelism on a folded mesh (MoE Parallel Folding, arXiv 2504.14960; GShard, arXiv 2006.16668).

The ranks of one pipeline stage are numbered twice: tensor x context x data for the dense part, and
expert-tensor x expert x expert-data for the experts.
"""

from typing import Final

import numpy as np

from simtrain.workload import passes
from simtrain.workload.op import Elementwise, GroupedMatmul, Matmul, Message, Op, Saved, both_ways
from simtrain.workload.rule import Rule
from simtrain.workload.shard import Array, Shard

PERMUTED: Final = 0.75
"""Bandwidth of kernels that put tokens in another order over that of passes in order: 0.50 and 0.51 of the data sheet's
against 0.67 on B200 (MooreThreads/SimuMax configs/system/b200_bf16_ceperm.json, permute_fwd, permute_bwd, default)."""


def gates(shard: Shard) -> Array:
    """Elements of the activated gates of one layer, those of the shared expert included."""
    model, plans = shard.job.model, shard.plans
    experts = model.experts
    assert experts is not None
    routed = shard.expert_rows * experts.count / plans.ep * experts.ffn / plans.etp
    return np.asarray(model.gated_experts * (routed + shard.tokens * experts.shared_ffn / plans.tp))


def feed_forward(shard: Shard) -> tuple[tuple[Op, ...], Saved]:
    """Router, dispatch, grouped expert products, combine: ops and saved bytes of one layer.

    Tensor ranks route a slice of the positions each; without sequence parallelism the slices are gathered again. Copies
    are put in order by rank before a plain exchange and by expert after it; dispatchers that send a token once to a
    rank do the first on the way (NVIDIA/Megatron-LM docs/discussions/deepseek-v3-gb200-optimization section 2.1.1).
    """
    model, precision, stack, plans = shard.job.model, shard.job.precision, shard.job.stack, shard.plans
    experts = model.experts
    assert experts is not None
    halves = 2 if model.gated_experts else 1
    width = precision.activation_bytes
    local = experts.count / plans.ep
    rows = shard.expert_rows
    copies = rows * local
    sent = shard.tokens / plans.tp * experts.top_k * model.hidden * width
    gathered = sent * plans.etp
    ffn = experts.ffn / plans.etp
    routed = shard.tokens / plans.tp
    apart = stack.experts is None or not stack.experts.fused.value
    dispatch = Message("all_to_all", "expert", sent, plans.ep, plans.etp, 1.0 * (plans.ep > 1), copies=experts.top_k)
    plain = stack.experts is not None and stack.experts.dispatcher.value == "every copy"
    orders = 1.0 + plain * (plans.ep > 1) * (local > 1)
    permuted = Elementwise(2 * sent / PERMUTED * orders, 2 * sent / PERMUTED * orders)
    inner = 1.0 * (plans.etp > 1)
    gather = Message("all_gather", "expert", gathered, plans.etp, np.ones_like(plans.etp), inner)
    replicated = 1.0 * ((plans.tp > 1) & (plans.sp == 0))
    restore = Message("all_gather", "tensor", shard.hidden_size, plans.tp, np.ones_like(plans.tp), replicated)
    scatter = Message("reduce_scatter", "expert", gathered, plans.etp, np.ones_like(plans.etp), inner)
    ops = (
        *both_ways("router", "routing", Matmul(routed, experts.count, model.hidden, sensitive=True)),
        *both_ways("permute", "routing", permuted),
        Op("dispatch", "routing", "forward", dispatch),
        Op("dispatch backward", "routing", "backward", dispatch),
        Op("expert gather", "routing", "forward", gather),
        Op("expert gather backward", "routing", "backward", scatter),
        *both_ways("expert up", "projection", GroupedMatmul(rows, halves * ffn, model.hidden, local)),
        *both_ways(
            "expert activation",
            "activation",
            passes.activation(width, model.gated_experts, stack.fused_elementwise.value).over(apart * copies * ffn),
        ),
        *both_ways("expert down", "projection", GroupedMatmul(rows, model.hidden, ffn, local)),
        *shard.narrowed("expert up", copies * model.hidden, apart * halves * copies * ffn),
        *shard.narrowed("expert down", apart * copies * ffn, copies * model.hidden),
        Op("expert scatter", "routing", "forward", scatter),
        Op("expert scatter backward", "routing", "backward", gather),
        Op("combine", "routing", "forward", dispatch),
        Op("combine backward", "routing", "backward", dispatch),
        *both_ways("unpermute", "routing", permuted),
        Op("tokens restored", "routing", "forward", restore),
        Op("tokens restored backward", "routing", "backward", restore),
    )
    read_again = shard.job.trained("feed-forward")
    inputs = copies * model.hidden * precision.matmul_input_bytes * read_again
    between = halves * copies * ffn * stack.expanded_bytes(width)
    activated = copies * ffn * precision.matmul_input_bytes * read_again
    returned = sent
    dropped = activated * stack.rebuilt("activation") + between * stack.rebuilt("projection")
    return ops, Saved({"routed": inputs + returned, "expanded": between, "activated": activated}, dropped)


RULES = (
    Rule(
        "expert degree needs experts",
        "a dense model has none to spread",
        lambda job, plans: (plans.ep == 1) & (plans.etp == 1) | np.full(len(plans), job.model.experts is not None),
    ),
    Rule(
        "expert degree divides the experts",
        "each expert rank holds whole experts",
        lambda job, plans: (job.model.experts.count if job.model.experts else 1) % plans.ep == 0,
    ),
    Rule(
        "expert tensor degree divides the expert width",
        "each of its ranks takes an equal slice",
        lambda job, plans: (job.model.experts.ffn if job.model.experts else 1) % plans.etp == 0,
    ),
    Rule(
        "the expert mesh covers the stage",
        "etp x ep must divide tp x cp x dp: both meshes use the same ranks",
        lambda job, plans: (plans.tp * plans.cp * plans.dp) % (plans.ep * plans.etp) == 0,
    ),
    Rule(
        "expert slices stay within the tensor group",
        "an expert is never cut finer than the dense part",
        lambda job, plans: plans.etp <= plans.tp,
    ),
)
