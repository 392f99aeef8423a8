"""The step of many plans in closed form: pipeline, bubble, exposed communication.

Stage arrays have shape (representatives, plans), as in workload.strategies.pipeline; the rest (plans,).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.plan import PlanTable
from simtrain.workload.strategies.pipeline import FIRST, GPIPE, INTERLEAVED, Stages

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Hops:
    """Messages between neighbouring stages."""

    seconds: Stages
    """One message to or from the slower neighbour."""
    exchanges: Stages
    """Exchanges with a neighbour a microbatch: one a chunk and side; a send and a receive at once count once."""
    path: Array
    """Seconds of all hops from the first stage to the last."""


@dataclass(frozen=True)
class Pipeline:
    """Seconds of a step up to the last backward pass."""

    busy: Array
    """Compute and communication of all microbatches on the busiest stage."""
    bubble: Array
    hops: Array
    """Exposed messages between stages."""


def pipeline(plans: PlanTable, count: Stages, forward: Stages, backward: Stages, hops: Hops, hidden: float) -> Pipeline:
    """Time a pipeline whose stages take `forward` and `backward` seconds a microbatch.

    1F1B: m max(t) + (sum(t) - max(t)) / v with t = forward + backward, which is (m + (p - 1)/v) t on equal stages
    (Narayanan et al., arXiv 2104.04473 section 2.2). GPipe (arXiv 1811.06965) waits for the slowest forward and the
    slowest backward apart. In the steady state a stage exchanges with its neighbours for every chunk; of that, `hidden`
    hides where other chunks wait to run (interleaved). While the pipeline fills and drains, every hop shows.
    """
    m, v = plans.microbatches, plans.vpp
    both = forward + backward
    shown = np.where(plans.schedule == INTERLEAVED, 1 - hidden, 1.0)
    exchanged = hops.exchanges * hops.seconds * shown
    stage = (both + exchanged).argmax(axis=0)
    chosen = (stage, np.arange(len(plans)))
    slowest = both[chosen]
    fill = ((count * both).sum(axis=0) - slowest) / v
    apart = np.zeros_like(slowest)
    flushed = plans.schedule == GPIPE
    if flushed.any():
        peaks = forward.max(axis=0) + backward.max(axis=0)
        apart = np.where(flushed, (m - 1) * (peaks - slowest), 0.0)
    return Pipeline(m * slowest, fill + apart, m * exchanged[chosen] + 2 * hops.path)


def exposed_reduction(
    plans: PlanTable,
    position: Stages,
    reduction: Stages,
    backward: Stages,
    overlap: float | Array,
    taken: Stages | float = 0.0,
) -> Array:
    """Gradient reduction that shows (s): what does not hide behind a backward pass or a later stage's slack.

    From ZeRO stage 2 on gradients are reduced after every microbatch, before that once a step, behind the last
    microbatch's backward pass, of which parameter gathering has `taken` a part. A stage at some `position` behind the
    first finishes early and has the drain of the pipeline as slack.
    """
    rounds = np.where(plans.zero >= 2, plans.microbatches, 1)
    once = reduction - np.minimum(overlap * reduction, backward - taken)
    slack = position * backward[FIRST] / plans.vpp
    last = np.maximum(once - slack, 0.0).max(axis=0)
    return np.asarray((rounds - 1) * once.max(axis=0) + last)


def gathered_behind(plans: PlanTable, gather: Stages, backward: Stages, overlap: float) -> Stages:
    """Seconds of a backward pass that parameter gathering hides behind (ZeRO 3): reduction has what is left."""
    return np.where(plans.zero == 3, np.minimum(overlap * gather, backward), 0.0)


def exposed_gather(plans: PlanTable, gather: Stages, forward: Stages, backward: Stages, overlap: float) -> Array:
    """Parameter gathering that shows (s): once after the update (ZeRO 1, 2), or before every pass (ZeRO 3)."""
    ahead = gather - np.minimum(overlap * gather, forward)
    back = gather - gathered_behind(plans, gather, backward, overlap)
    every = plans.microbatches * (ahead + back)
    return np.asarray(np.where(plans.zero == 3, every, ahead).max(axis=0))
