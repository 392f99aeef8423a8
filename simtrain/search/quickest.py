"""The best plans alone, as `search` ranks them, without its front and counts: what a sweep asks at every point.

No step is shorter than its passes (estimate.bound). A sample of the space sets a mark; what cannot beat the mark, or
holds more activations than a device has memory, is neither kept nor estimated.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate import Detail, Estimate, estimate, machine
from simtrain.estimate.bound import bound
from simtrain.estimate.passes import priced
from simtrain.price.blocks import Machine
from simtrain.search.search import ranked, refined
from simtrain.search.space import BLOCK, Space
from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable
from simtrain.timeline.memory import holdings
from simtrain.workload.strategies.pipeline import BREADTH_FIRST, FIRST, GPIPE, INTERLEAVED, in_flight, layout
from simtrain.workload.strategies.recompute import FULL, NONE, SELECTIVE

FILLS: Final = (GPIPE, BREADTH_FIRST, INTERLEAVED)
"""Schedules in which the slowest stage also waits for a microbatch to come through a chunk of every other."""
SAMPLED: Final = 32
"""One of so many meshes is in the sample."""
Array = NDArray[np.float64]


def quickest(job: Job, top: int) -> tuple[Estimate, Detail]:
    """The plans `search(job, top)` ranks, fastest first; none where nothing fits."""
    on = machine(job)
    space = Space(job)
    outer = space.outer
    if not len(outer):
        return refined(job, outer, on, top)
    modes = [replace(outer, recompute=np.full(len(outer), mode)) for mode in (NONE, SELECTIVE, FULL)]
    least = np.stack([bound(job, plans, on) / outer.global_batch for plans in modes])
    order = np.argsort(least[NONE], kind="stable")
    layers = layout(job, outer).layers
    largest, first = layers.max(axis=0) + 1, np.maximum(layers[FIRST] - 1, 1)
    held = np.stack([holdings(priced(job, plans, on)[0]).activations[FIRST] for plans in modes])
    held = held * first / np.maximum(layers[FIRST], 1)
    kept, mark = [PlanTable.of([])], np.inf
    looked_at = np.concatenate([order[::SAMPLED], order])
    step = max(1, 4 * BLOCK // space.inner_size)
    for start in range(0, len(looked_at), step):
        rows = looked_at[start : start + step]
        plans, row, _ = space.behind(rows[least[NONE, rows] <= mark])
        worth = _least(plans, least[:, row], largest[row]) <= mark
        kept.append(
            plans.take(worth & (_held(job, plans, held[:, row], first[row]) <= job.cluster.device.memory.value))
        )
        if sum(map(len, kept)) >= BLOCK or start + step >= len(looked_at):
            best, mark = _best(job, PlanTable.concatenate(kept), on, top)
            kept = [best]
    return refined(job, kept[0], on, top)


def _least(plans: PlanTable, least: Array, largest: Array) -> Array:
    """Seconds a sequence at least; `least`: of the same mesh without recomputation, selective, full, shape (3, plans).

    No stage holds more layers than `largest`, so of each at least that share of those named is rebuilt. With t seconds
    of passes in the mean over p stages, m max(t) + (sum(t) - max(t)) / v is no less than (m + (p - 1) / v) t.
    """
    chosen = np.take_along_axis(least, plans.recompute[None], axis=0)[0]
    rebuilt = chosen + plans.full_layers / largest * (least[FULL] - chosen)
    fills = np.isin(plans.schedule, FILLS)
    return np.asarray(rebuilt * (1 + fills * (plans.pp - 1) / (plans.vpp * plans.microbatches)))


def _held(job: Job, plans: PlanTable, held: Array, first: Array) -> Array:
    """Bytes the first stage holds at least: activations of the microbatches in flight, and what is never free.

    `held`: activations of one microbatch without recomputation, selective, full, shape (3, plans); `first`: layers the
    stage has at least.
    """
    chosen = np.take_along_axis(held, plans.recompute[None], axis=0)[0]
    each = chosen + np.minimum(plans.full_layers / first, 1.0) * (held[FULL] - chosen)
    return np.asarray(in_flight(plans, np.zeros(len(plans))) * each + job.stack.reserve.value)


def _best(job: Job, plans: PlanTable, on: Machine, top: int) -> tuple[PlanTable, float]:
    """The fastest of each mesh, and the seconds a sequence of the last, which nothing slower can replace."""
    found = estimate(job, plans, on)
    roomy = bool(found.roomy.any())
    rows = np.flatnonzero(found.roomy if roomy else found.fits)
    pace = found.step_time / found.plans.global_batch
    best = rows[ranked(found.plans.take(rows), pace[rows], found.memory.total[rows])[:top]]
    return found.plans.take(best), float(pace[best[-1]]) if roomy and len(best) == top else np.inf
