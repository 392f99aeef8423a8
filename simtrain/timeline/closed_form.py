"""The step of many plans in closed form: pipeline, bubble, exposed communication.

Stage arrays have shape (representatives, plans), as in workload.strategies.pipeline; the rest (plans,).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.plan import PlanTable
from simtrain.spec.schedule import FLOODS, HIDES
from simtrain.workload.strategies.pipeline import (
    FIRST,
    HANAYO,
    INTERLEAVED,
    NO_FLUSH,
    ONE_F_ONE_B,
    ZB_V,
    Stages,
    activation_limit,
    splits,
)

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
NEVER: Final = np.zeros(1, dtype=bool)


@dataclass(frozen=True)
class Hops:
    """Messages between neighbouring stages."""

    seconds: Stages
    """One message to or from a neighbour, in the mean over both."""
    exchanges: Stages
    """Exchanges with a neighbour a microbatch: one a chunk and side; a send and a receive at once count once."""
    path: Array
    """Seconds of all hops from the first stage to the last."""
    back: Array
    """Seconds of the hop from the last stage to the first."""


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
    host: float = 0.0,
) -> Pipeline:
    """Time a pipeline whose stages take `forward` and `backward` seconds a microbatch; `apart`: None where no plan
    splits its backward passes. The `host` takes its time for each microbatch on every stage, but is done with it where
    a stage waits for its neighbours.

    1F1B: `_around` each stage; with chunks m max(t) + (sum(t) - max(t)) / v with t = forward + backward. Both are
    (m + (p - 1)/v) t on equal stages (Narayanan et al., arXiv 2104.04473 section 2.2). GPipe (arXiv 1811.06965) and
    breadth-first (arXiv 2211.05953) wait for the slowest forward and the slowest backward apart, and all stages
    exchange in both; the latter waits for every chunk to come around where microbatches are few. Without a flush
    (arXiv 2003.11666) nothing fills or drains. Waves (arXiv 2308.15762): 2(p - 1) of the longer passes of a chunk.
    Schedules that split their backward passes are laid out around their hops: `_split_bubble`, `_folded_bubble`.

    In the steady state a stage exchanges with its neighbours for every chunk, of interleaved ones as often as a stage
    at an end: the others have the slack for one more. Of that, `hidden` hides where other work waits to run. While the
    pipeline fills and drains, every hop shows: once through the stages, and where hops hide between chunks once more
    for every further chunk (of waves: every chunk), as those follow without slack.
    """
    m, v = plans.microbatches, plans.vpp
    both = forward + backward
    split, flushed = splits(plans), plans.schedule != NO_FLUSH
    shown = np.where(HIDES[plans.schedule], 1 - hidden, 1.0 * ~split)
    exchanges = np.where(plans.schedule == INTERLEAVED, hops.exchanges[FIRST], hops.exchanges)
    exchanged = exchanges * hops.seconds * shown
    others = ((count * both).sum(axis=0) - both) / v
    idle = np.where(plans.schedule == ONE_F_ONE_B, _around(plans, count, forward, backward), others * flushed)
    chosen = ((m * (both + exchanged) + idle).argmax(axis=0), np.arange(len(plans)))
    slowest, fill = both[chosen], idle[chosen]
    flush = np.zeros_like(slowest)
    floods = FLOODS[plans.schedule]
    if floods.any():
        peaks = forward.max(axis=0) + backward.max(axis=0)
        loop = (1 - shown) * (hops.path + hops.back)
        circling = [np.maximum((plans.pp - m) * part.max(axis=0) / v + loop, 0.0) for part in (forward, backward)]
        flush = np.where(floods, (m - 1) * (peaks - slowest) + (v - 1) * sum(circling), 0.0)
        exchanged = np.where(floods, 2 * v * hops.seconds * shown, exchanged)
    waves = plans.schedule == HANAYO
    turns = np.where(waves, v, np.where(plans.schedule == INTERLEAVED, v - 1, 0)) * (1 - shown)
    last = floods * shown * hops.seconds.max(axis=0)
    ends = 2 * flushed * (hops.path + turns * (hops.path + hops.back * ~waves) - last)
    longest = np.maximum(forward.max(axis=0), backward.max(axis=0))
    bubble = np.where(waves, fill + (plans.pp - 1) * (2 * longest - both.max(axis=0)) / v, fill + flush)
    shows = m * exchanged[chosen] + ends
    if apart is not None:
        own = (forward[chosen], (backward - apart.seconds)[chosen], apart.seconds[chosen])
        around = ((count * forward).sum(axis=0) - own[0], (count * (backward - apart.seconds)).sum(axis=0) - own[1])
        still, moving = (
            np.where(
                plans.folded == 1,
                _folded_bubble(plans, around, own, path, apart),
                _split_bubble(plans, around, own, path, apart),
            )
            for path in (0.0 * hops.path, hops.path)
        )
        bubble, shows = np.where(split, still, bubble), np.where(split, moving - still, shows)
    return Pipeline(m * (slowest + host), bubble, shows)


def _around(plans: PlanTable, count: Stages, forward: Stages, backward: Stages) -> Stages:
    """Seconds the last stage of each representative idles at least in a 1F1B step, messages aside.

    The first microbatch comes through the stages before it, and its gradient goes back through them at the end. The
    stages behind it take a round trip before its first backward pass, in which the n - 1 forward passes fit that it may
    be ahead, and one after its last forward pass, with the n - 1 backward passes of those; they are the same trip where
    there are no more than n microbatches. On the slowest of equal stages, the last, (p - 1)(forward + backward) remain.
    """
    both = forward + backward
    through, stages = np.cumsum(count * both, axis=0), np.cumsum(count, axis=0)
    limit = stages[-1] - stages + 1
    ahead = np.minimum(plans.microbatches, limit) - 1
    trip = through[-1] - through
    first, last = (np.maximum(trip - ahead * part, 0.0) for part in (forward, backward))
    idle = through - both + np.where(plans.microbatches > limit, first + last, np.maximum(first, last))
    return np.asarray(np.where(count > 0, idle, 0.0))


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

    The numbers are those of ibid. table 5 to 0.1 % of a step (ZB-1p) and 0.7 % (ZB-2p, whose search leaves up to T_F).
    """
    m, (forward, backward, weight) = plans.microbatches, own
    limit = activation_limit(plans)
    trip = around[0] + around[1] + 2 * path
    before = np.maximum(trip - (np.minimum(limit, m) - 1) * forward, 0.0)
    after = np.where(m > limit, np.maximum(trip - (limit - 1) * (backward + weight), 0.0), 0.0)
    held = np.minimum(m, limit / np.maximum(apart.share, 1 / limit))
    bubble = np.maximum(before + after, np.maximum(trip - (held - 1) * weight, 0.0))
    return np.asarray(np.maximum(bubble, around[0] + path) if apart.synchronous else bubble)


def _folded_bubble(
    plans: PlanTable, around: tuple[Array, Array], own: tuple[Array, Array, Array], path: Array, apart: Apart
) -> Array:
    """The same for a V, weight gradients no longer than the other passes.

    ZB-V: none with equal passes (arXiv 2401.10241 section 6); where weight gradients are shorter, both halves of each
    further stage add what the longer of the other passes takes more, and one weight gradient at the end fits in.
    DualPipeV: (p - 1)(T_F + T_B - T_W), or with 2 T_B for both where backward passes are longer, less one forward pass.
    Both are read off the replayed orders, which they meet to 1 % of a step from one and a half microbatches a stage on
    (tests/laws). With fewer, a step takes at least a microbatch's way down and up and back.
    """
    forward, _, weight = (part / 2 for part in own)
    between = (plans.pp - 1) * weight
    ahead, back = around[0] / 2, around[1] / 2
    longer = np.maximum(ahead, back)
    fits = 2 * longer > 3 * between
    two = np.maximum(2 * (longer - between) - fits * weight, 0.0) + 6 * path
    one = np.maximum(ahead + back, 2 * back - forward) - between + 4 * path
    way = around[0] + around[1] + own[0] + own[1] - plans.microbatches * sum(own)
    bubble = np.maximum(np.where(plans.schedule == ZB_V, two, one), way)
    return np.asarray(np.maximum(bubble, longer + path) if apart.synchronous else bubble)


def _shown(plans: PlanTable, traffic: Stages, passes: Stages, overlap: float | Array, every: Flags) -> Stages:
    """Seconds of a stage's traffic that do not hide beside the passes of a microbatch, of which `overlap` could.

    Of a round a step (not of `every` microbatch) that of interleaved chunks is ready one after another: between the
    last passes of two, or their first, stand p passes of a chunk. That of the last chunk has its own pass alone.
    """
    chunks = np.where((plans.schedule == INTERLEAVED) & ~every, plans.vpp, 1)
    beside = overlap * traffic
    room = passes * (1 + plans.pp * (chunks - 1)) / chunks
    late = np.maximum(np.maximum(beside - room, (beside - passes) / chunks), 0.0)
    return np.asarray(traffic - beside + late)


def exposed_reduction(
    plans: PlanTable,
    position: Stages,
    reduction: Stages,
    backward: Stages,
    overlap: float | Array,
    taken: Stages | float = 0.0,
    every: Flags = NEVER,
) -> Array:
    """Gradient reduction that shows (s): what does not hide behind a backward pass or a later stage's slack.

    Gradients are reduced after every microbatch where `every` says so, else once a step, behind the last microbatch's
    backward pass, of which parameter gathering has `taken` a part. A stage at some `position` behind the first finishes
    early and has the drain of the pipeline as slack.
    """
    rounds = np.where(every, plans.microbatches, 1)
    once = _shown(plans, reduction, backward - taken, overlap, every)
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
    ahead = _shown(plans, gather, forward, overlap, (plans.zero == 3) & ~whole)
    back = again - gathered_behind(plans, again, backward, overlap)
    every = plans.microbatches * (ahead + back)
    return np.asarray(np.where((plans.zero == 3) & ~whole, every, ahead).max(axis=0))
