"""Tensor and sequence parallelism (Megatron-LM, arXiv 1909.08053; sequence parallelism, arXiv 2205.05198).

A block half enters a tensor-parallel region once and leaves it once. Without sequence parallelism that is an
all-reduce on the way out (forward) and on the way in (backward); with it, an all-gather in and a reduce-scatter out;
the backward pass gathers the input once more for the weight gradients, beside the product that gives the input's
gradient (arXiv 2205.05198 section 4.2.2). Operands of narrow products are narrowed before they are gathered (NVIDIA
Transformer Engine, torchtitan's Float8ColwiseParallel; recalled, not opened).
"""

import numpy as np

from simtrain.workload.op import Collective, Message, Op, Role, Values
from simtrain.workload.rule import Rule
from simtrain.workload.shard import Shard


def boundary(shard: Shard, name: str, role: Role, entered: int = 1) -> tuple[Op, ...]:
    """Messages of one tensor-parallel region in one layer; `entered`: products whose input's gradient is summed apart.

    Sequence parallelism scatters their sum.
    """
    plans = shard.plans
    split = (plans.sp == 1) & (plans.tp > 1)
    whole = (plans.sp == 0) & (plans.tp > 1)

    precision = shard.job.precision
    trained = shard.job.trained("attention" if name == "attention" else "feed-forward")
    needed = shard.job.stack.messages.gathered_again.value * trained
    narrowed = (precision.tensor_gather_bytes or precision.matmul_input_bytes) / precision.activation_bytes

    def send(collective: Collective, times: Values, hidden: bool = False) -> Message:
        size = shard.hidden_size * (narrowed if collective == "all_gather" else 1.0)
        return Message(collective, "tensor", size, plans.tp, np.ones_like(plans.tp), times, hidden=hidden)

    return (
        Op(f"{name} gather", role, "forward", send("all_gather", 1.0 * split)),
        Op(f"{name} scatter", role, "forward", send("reduce_scatter", 1.0 * split)),
        Op(f"{name} reduce", role, "forward", send("all_reduce", 1.0 * whole)),
        Op(f"{name} gather backward", role, "backward", send("all_gather", 1.0 * split)),
        Op(f"{name} input gathered again", role, "backward", send("all_gather", needed * split, hidden=True)),
        Op(f"{name} scatter backward", role, "backward", send("reduce_scatter", 1.0 * split)),
        Op(f"{name} reduce backward", role, "backward", send("all_reduce", entered * whole)),
    )


RULES = (
    Rule(
        "tensor degree divides heads",
        "each tensor rank takes whole attention heads",
        lambda job, plans: job.model.heads % plans.tp == 0,
    ),
    Rule(
        "key-value heads split or replicate evenly",
        "tensor degree and key-value heads must divide one another",
        lambda job, plans: (job.model.kv_heads % plans.tp == 0) | (plans.tp % job.model.kv_heads == 0),
    ),
    Rule(
        "tensor degree divides the feed-forward",
        "each tensor rank takes an equal slice of the feed-forward width",
        lambda job, plans: (
            (job.model.ffn % plans.tp == 0)
            & ((job.model.experts.shared_ffn if job.model.experts else 0) % plans.tp == 0)
        ),
    ),
    Rule(
        "sequence parallelism divides the sequence",
        "each tensor rank takes an equal part of the positions",
        lambda job, plans: (plans.sp == 0) | (job.sequence % (plans.tp * plans.cp) == 0),
    ),
    Rule(
        "sequence parallelism needs tensor ranks",
        "with tensor degree 1 there is nothing to split",
        lambda job, plans: (plans.sp == 0) | (plans.tp > 1),
    ),
    Rule(
        "the stack has sequence parallelism",
        "this training stack cannot do it",
        lambda job, plans: (plans.sp == 0) | np.full(len(plans), job.stack.sequence_parallel),
    ),
)
