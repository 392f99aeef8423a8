"""States in host memory or on drives: ZeRO-Offload (arXiv 2101.06840) keeps weights on the device, ZeRO-Infinity
(arXiv 2104.07857) keeps nothing there.

Whoever holds moments and master weights updates: the processors of the host where both are off the device, else the
device, into which what is away comes for the update and leaves again. Gradients off the device go there after every
microbatch, and those on drives are read, added to and written again; weights off it come in before every pass, each
rank its shard.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.placement import DEVICE, NVME, OFFLOAD, PLACE_OF, STATES, State
from simtrain.spec.plan import PlanTable
from simtrain.workload.rule import Rule

BUFFERED_LAYERS: Final = 2
"""Layers whose travelling activations are on the device at once: one computes, one is copied (MEMO, arXiv
2407.12117)."""


def place(plans: PlanTable, state: State) -> NDArray[np.int64]:
    """Where a state is, an index into placement.PLACES, shape (plans,)."""
    return np.asarray(PLACE_OF[plans.offload, STATES.index(state)])


def leaves(plans: PlanTable, state: State) -> NDArray[np.bool_]:
    """Whether a state is off the device, shape (plans,)."""
    return np.asarray(place(plans, state) != DEVICE)


def updated_away(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    """Whether the processors of the host update, shape (plans,)."""
    held: dict[State, float] = {"master": job.precision.master_bytes, "moments": job.optimizer.moment_bytes}
    needed: list[State] = [state for state, width in held.items() if width > 0] or ["gradients"]
    return np.asarray(np.all([leaves(plans, state) for state in needed], axis=0))


def _offered(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    names = ("none", *job.stack.offload, *job.stack.offload_asked)
    return np.isin(plans.offload, [OFFLOAD.index(name) for name in names])


def _drives(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    used = (PLACE_OF[plans.offload] == NVME).any(axis=1)
    return np.asarray(~used | job.cluster.node.host.has_drives)


RULES = (
    Rule("the stack can offload this", "this training stack keeps those states on the device", _offered),
    Rule(
        "drives hold states where there are drives",
        "the node's file states no nvme, nvme_read and nvme_write",
        _drives,
    ),
    Rule(
        "weights leave the device where they are sharded",
        "ranks bring in their shards and gather them (ZeRO stage 3)",
        lambda job, plans: ~leaves(plans, "weights") | (plans.zero == 3),
    ),
    Rule(
        "gradients leave the device where they are done with",
        "no stage reads them again: a pipeline accumulates on the device, and keeps its weights there",
        lambda job, plans: ~(leaves(plans, "gradients") | leaves(plans, "weights")) | (plans.pp == 1),
    ),
)
