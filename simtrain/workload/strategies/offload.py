"""States in host memory: ZeRO-Offload (arXiv 2101.06840) keeps weights on the device, ZeRO-Infinity
(arXiv 2104.07857) keeps nothing there.

The optimizer's states and the accumulated gradients live with the processor that updates them. Gradients go there after
every microbatch, new weights come back; weights in host memory come in before every pass, each rank its shard.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import OFFLOAD, PlanTable
from simtrain.workload.rule import Rule

NONE, OPTIMIZER, ALL = range(len(OFFLOAD))
BUFFERED_LAYERS: Final = 2
"""Layers whose travelling activations are on the device at once: one computes, one is copied (MEMO, arXiv
2407.12117)."""


def leaves(plans: PlanTable) -> NDArray[np.bool_]:
    """Whether optimizer states and gradients are in host memory, shape (plans,)."""
    return np.asarray(plans.offload >= OPTIMIZER)


def leaves_whole(plans: PlanTable) -> NDArray[np.bool_]:
    """Whether weights are there too, shape (plans,)."""
    return np.asarray(plans.offload == ALL)


def _offered(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    return np.isin(plans.offload, [OFFLOAD.index(name) for name in ("none", *job.stack.offload)])


RULES = (
    Rule("the stack can offload this", "this training stack keeps those states on the device", _offered),
    Rule(
        "weights leave the device where they are sharded",
        "ranks bring in their shards and gather them (ZeRO stage 3)",
        lambda job, plans: (plans.offload != ALL) | (plans.zero == 3),
    ),
    Rule(
        "gradients leave the device where they are done with",
        "no stage reads them again: a pipeline accumulates on the device",
        lambda job, plans: (plans.offload == NONE) | (plans.pp == 1),
    ),
)
