"""The step of many plans in closed form: pipeline, bubble, exposed communication.

Stage arrays have shape (representatives, plans), as in workload.strategies.pipeline; the rest (plans,).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.plan import PlanTable
from simtrain.workload.strategies.pipeline import FIRST, GPIPE, INTERLEAVED, ZB_V, Stages, activation_limit, splits

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
NEVER: Final = np.zeros(1, dtype=bool)


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
class Apart:
    """Weight gradients that run apart from the backward pass."""

    seconds: Stages
    """Of a microbatch's backward pass."""
    share: Array
    """Bytes a microbatch's weight gradients wait with, over those its backward pass waits with (M_W / M_B)."""
    synchronous: bool
    """Whether all stages wait for one another before they update their weights."""


@dataclass(frozen=True)
class Pipeline:
    """Seconds of a step up to the last backward pass."""

    busy: Array
    """Compute and communication of all microbatches on the busiest stage."""
    bubble: Array
    hops: Array
    """Exposed messages between stages."""


def pipeline(
    plans: PlanTable,
    count: Stages,
    forward: Stages,
    backward: Stages,
    hops: Hops,
    hidden: float,
    apart: Apart | None = None,
) -> Pipeline:
    """Time a pipeline whose stages take `forward` and `backward` seconds a microbatch; `apart`: None where no plan
    splits its backward passes.

    1F1B: m max(t) + (sum(t) - max(t)) / v with t = forward + backward, which is (m + (p - 1)/v) t on equal stages
    (Narayanan et al., arXiv 2104.04473 section 2.2). GPipe (arXiv 1811.06965) waits for the slowest forward and the
    slowest backward apart. In the steady state a stage exchanges with its neighbours for every chunk; of that, `hidden`
    hides where other chunks wait to run (interleaved). While the pipeline fills and drains, every hop shows.
    Zero-bubble schedules: `_split_bubble`; they are laid out around their hops.
    """
    m, v = plans.microbatches, plans.vpp
    both = forward + backward
    split = splits(plans)
    shown = np.where(plans.schedule == INTERLEAVED, 1 - hidden, 1.0 * ~split)
    exchanged = hops.exchanges * hops.seconds * shown
    stage = (both + exchanged).argmax(axis=0)
    chosen = (stage, np.arange(len(plans)))
    slowest = both[chosen]
    fill = ((count * both).sum(axis=0) - slowest) / v
    flush = np.zeros_like(slowest)
    flushed = plans.schedule == GPIPE
    if flushed.any():
        peaks = forward.max(axis=0) + backward.max(axis=0)
        flush = np.where(flushed, (m - 1) * (peaks - slowest), 0.0)
    bubble, shows = fill + flush, m * exchanged[chosen] + 2 * hops.path
    if apart is not None:
        own = (forward[chosen], (backward - apart.seconds)[chosen], apart.seconds[chosen])
        around = ((count * forward).sum(axis=0) - own[0], (count * (backward - apart.seconds)).sum(axis=0) - own[1])
        still, moving = (_split_bubble(plans, around, own, path, apart) for path in (0.0 * hops.path, hops.path))
        bubble, shows = np.where(split, still, bubble), np.where(split, moving - still, shows)
    return Pipeline(m * slowest, bubble, shows)


def _split_bubble(
    plans: PlanTable, around: tuple[Array, Array], own: tuple[Array, Array, Array], path: Array, apart: Apart
) -> Array:
    """Seconds the slowest stage idles under a zero-bubble schedule (arXiv 2401.10241), its hops included.

    `around`: forward and input-gradient seconds of one microbatch on all other stages, `own`: forward, input- and
    weight-gradient seconds on the slowest. With n activations of a microbatch in the limit (ZB-1p: p, ZB-2p: 2p):

    - First stage: the first backward pass comes back after a round trip R = (p - 1)(T_F + T_B + 2 T_comm), in which
      n - 1 more forward passes fit (ibid. appendix B, equation 2). Once the limit is reached a forward pass waits for
      the weight gradients of the one n before it; after the last of them another round trip passes, with n - 1
      backward and weight passes to fill it. For n = p both together are ZB-H1's (p - 1)(T_F + T_B - T_W + 4 T_comm).
    - Last stage: it starts (p - 1)(T_F + T_comm) after the first and must be done with its backward passes
      (p - 1)(T_B + T_comm) before it. Weight passes kept for the end make room, as many as there are microbatches and
      as the limit holds of their bytes; the first stage has one left then: R - (held - 1) T_W.

    In a V every stage has two passes of half the length each, and 2p halves in the limit of p microbatches; its last
    stage has the idle time before the first backward pass, no stage waits for the limit in between. The numbers are
    those of ibid. table 5 to 0.1 % of a step (ZB-1p) and 0.7 % (ZB-2p, whose search leaves up to T_F).
    """
    m, v = plans.microbatches, np.where(plans.schedule == ZB_V, 2, 1)
    forward, backward, weight = (part / v for part in own)
    limit = activation_limit(plans) * v
    trip = (around[0] + around[1]) / v + 2 * path
    before = np.maximum(trip - (np.minimum(limit, m * v) - v) * forward, 0.0)
    full = (m * v > limit) & (v == 1)
    after = np.where(full, np.maximum(trip - (limit - 1) * (backward + weight), 0.0), 0.0)
    held = np.minimum(m * v, limit / np.maximum(apart.share, 1 / limit))
    bubble = np.maximum(before + after, np.maximum(trip - (held - 1) * weight, 0.0))
    return np.asarray(np.maximum(bubble, around[0] / v + path) if apart.synchronous else bubble)


def exposed_reduction(
    plans: PlanTable,
    position: Stages,
    reduction: Stages,
    backward: Stages,
    overlap: float | Array,
    taken: Stages | float = 0.0,
    whole: Flags = NEVER,
) -> Array:
    """Gradient reduction that shows (s): what does not hide behind a backward pass or a later stage's slack.

    From ZeRO stage 2 on gradients are reduced after every microbatch, before that once a step, behind the last
    microbatch's backward pass, of which parameter gathering has `taken` a part. A stage at some `position` behind the
    first finishes early and has the drain of the pipeline as slack.
    """
    rounds = np.where((plans.zero >= 2) & ~whole, plans.microbatches, 1)
    once = reduction - np.minimum(overlap * reduction, backward - taken)
    slack = np.where(splits(plans), 0.0, position * backward[FIRST] / plans.vpp)
    last = np.maximum(once - slack, 0.0).max(axis=0)
    return np.asarray((rounds - 1) * once.max(axis=0) + last)


def gathered_behind(plans: PlanTable, gather: Stages, backward: Stages, overlap: float) -> Stages:
    """Seconds of a backward pass that parameter gathering hides behind (ZeRO 3): reduction has what is left."""
    return np.where(plans.zero == 3, np.minimum(overlap * gather, backward), 0.0)


def exposed_gather(
    plans: PlanTable,
    gather: Stages,
    again: Stages,
    forward: Stages,
    backward: Stages,
    overlap: float,
    whole: Flags = NEVER,
) -> Array:
    """Parameter gathering that shows (s): once after the update (ZeRO 1, 2), or before every pass (ZeRO 3).

    `again` is what the backward pass gathers; where weights stay `whole`, they are gathered once a step.
    """
    ahead = gather - np.minimum(overlap * gather, forward)
    back = again - gathered_behind(plans, again, backward, overlap)
    every = plans.microbatches * (ahead + back)
    return np.asarray(np.where((plans.zero == 3) & ~whole, every, ahead).max(axis=0))
