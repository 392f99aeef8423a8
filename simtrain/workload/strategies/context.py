"""Context parallelism: the sequence over ranks, by heads (Ulysses, arXiv 2309.14509) or as a ring (arXiv 2310.01889).

Ulysses exchanges queries, keys, values and outputs all-to-all; the ring passes keys and values around while
attention computes, with the causal work balanced over ranks. Both may be combined (head x ring). Backward, keys and
values travel once more, and their gradients, as wide as the stack adds them up.
"""

from typing import Final

import numpy as np

from simtrain.workload.op import Message, Op
from simtrain.workload.rule import Rule
from simtrain.workload.shard import Shard


def messages(shard: Shard, head_dim: float, value_head_dim: float) -> tuple[Op, ...]:
    """Messages of one layer's attention over the context axis; heads are exchanged before it and after it."""
    plans, width, stack = shard.plans, shard.job.precision.activation_bytes, shard.job.stack
    queries = shard.tokens * shard.heads * (head_dim + value_head_dim) * width
    kv_heads = shard.heads if stack.keys_repeated.value else shard.kv_heads
    keys = shard.tokens * kv_heads * (head_dim + value_head_dim) * width
    heads, ring = plans.cp_head, plans.cp_ring
    exchange = Message("all_to_all", "heads", (queries + keys) / 2, heads, plans.tp, 2.0 * (heads > 1))
    passed = Message("point_to_point", "context", keys, ring, plans.tp * heads, np.where(ring > 1, ring - 1.0, 0.0))
    both = keys * (1 + (stack.ring_gradient_bytes.value or width) / width)
    returned = Message("point_to_point", "context", both, ring, plans.tp * heads, np.where(ring > 1, ring - 1.0, 0.0))
    return (
        Op("context exchange", "core attention", "forward", exchange),
        Op("context exchange backward", "core attention", "backward", exchange),
        Op("context ring", "core attention", "forward", passed),
        Op("context ring backward", "core attention", "backward", returned),
    )


SHORTEST_CHUNK: Final = 256
"""Positions a rank below which attention kernels no longer fill a device; a judgement that keeps the space finite."""
RULES = (
    Rule(
        "context degree divides the sequence",
        "every context rank takes two equal chunks of positions, so that causal work is balanced",
        lambda job, plans: (plans.cp == 1) | (job.sequence % (2 * plans.cp) == 0),
    ),
    Rule(
        "head-wise context degree divides the heads",
        "each Ulysses rank takes whole heads of its tensor rank",
        lambda job, plans: (
            (plans.cp_head == 1)
            | (
                (job.model.heads % (plans.tp * plans.cp_head) == 0)
                & (job.model.kv_heads % (plans.tp * plans.cp_head) == 0)
            )
        ),
    ),
    Rule(
        "context chunks are long enough",
        "with few positions a rank, attention kernels no longer fill a device",
        lambda job, plans: (plans.cp == 1) | (job.sequence // plans.cp >= SHORTEST_CHUNK),
    ),
)
