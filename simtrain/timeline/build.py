"""Order and costs -> Graph: what every rank computes, sends, gathers and reduces, and what waits for what."""

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.actions import Actions, Pieces, listed, pieces
from simtrain.timeline.copies import copies
from simtrain.timeline.costs import Costs
from simtrain.timeline.graph import KNOWN, MESSAGE, NEEDS, OVERHEAD, PREPARE, UPDATE, Graph, Operations, assembled
from simtrain.timeline.order import NONE, WEIGHT, Index, Order
from simtrain.timeline.traffic import traffic

Array = NDArray[np.float64]


def build(order: Order, costs: Costs, slowdown: Array | None = None, given: Array | None = None) -> Graph:
    """The graph of one step.

    `slowdown`: factor on the passes of every stage of every data-parallel replica, shape (replicas, stages). One
    replica stands for all where they are alike. `given`: seconds of passes instead of the costs', before they are
    slowed, shape (phases, stages, chunks, microbatches); nan where the costs hold.
    """
    slow = np.ones((1, order.stages)) if slowdown is None else np.asarray(slowdown, float)
    actions = listed(order, len(slow))
    parts = pieces(actions, costs)
    of = np.repeat(np.arange(len(parts.count)), parts.count)
    passes = np.tile(costs.pass_seconds(), (1, len(slow), 1)) * slow.reshape(-1)[:, None]
    whole = passes[actions.phase, actions.rank, actions.chunk]
    if given is not None:
        stated = given[actions.phase, actions.stage, actions.chunk, actions.microbatch]
        whole = np.where(np.isnan(stated), whole, stated * slow.reshape(-1)[actions.rank])
    seconds = whole / parts.count
    needed = _needed(actions)
    sender, hop = _senders(actions, order, costs)
    blocked = np.zeros(len(of))
    blocked[parts.last[sender]] = costs.shown * hop
    under_way = parts.last[sender if costs.shown < 1 else sender[:0]]
    arrival = parts.last.copy()
    arrival[sender[: len(under_way)]] = len(of) + np.arange(len(under_way))
    needs = np.full((len(of), NEEDS), NONE)
    source = np.where(actions.phase == WEIGHT, parts.last[needed], arrival[needed])
    needs[parts.first, 0] = np.where(needed == NONE, NONE, source)
    compute = Operations(
        actions.phase[of], actions.rank[of], actions.chunk[of], actions.microbatch[of], seconds[of] + blocked, needs
    )
    pipeline = _messages(compute, under_way, (1 - costs.shown) * hop)
    data = traffic(actions, parts, costs, compute, offset=len(of) + len(pipeline))
    before = len(of) + len(pipeline)
    optimizer = _updates(costs, compute, data, actions, offset=before)
    moved = copies(actions, parts, costs, compute, offset=before + len(data) + len(optimizer))
    before += len(data) + len(optimizer) + sum(map(len, moved))
    host = _prepared(costs, compute, actions, parts, offset=before)
    return assembled((compute, pipeline, data, optimizer, *moved, host), actions.ranks, blocked)


def _needed(actions: Actions) -> Index:
    """The action whose result an action needs, NONE where there is none, shape (actions,)."""
    ends = actions.stages * actions.chunks
    ahead, back = actions.ahead, actions.back
    source = actions.position + np.where(ahead, -1, np.where(back, 1, 0))
    turns = source == ends
    kind = np.where(ahead | turns, 0, 1)
    source = np.where(turns, ends - 1, source)
    found = actions.found[kind, actions.replica, np.maximum(source, 0), actions.microbatch]
    return np.where(source < 0, NONE, found)


def _senders(actions: Actions, order: Order, costs: Costs) -> tuple[Index, Array]:
    """Actions whose result goes to another rank, and the seconds of that message."""
    ends = order.place.size
    stage_of = np.empty(ends, dtype=np.int64)
    stage_of[order.place] = np.arange(order.stages)[:, None]
    step = np.where(actions.ahead, 1, np.where(actions.back, -1, 0))
    target = actions.position + step
    there = stage_of[np.clip(target, 0, ends - 1)]
    sender = np.flatnonzero((step != 0) & (target >= 0) & (target < ends) & (there != actions.stage))
    here, there = actions.stage[sender], there[sender]
    next_to = np.abs(here - there) == 1
    return sender, costs.hops[np.where(next_to, np.minimum(here, there), np.maximum(here, there))]


def _messages(compute: Operations, after: Index, seconds: Array) -> Operations:
    """Messages under way while their senders go on."""
    needs = np.full((len(after), NEEDS), NONE)
    needs[:, 0] = after
    return Operations(
        np.full(len(after), MESSAGE),
        compute.rank[after],
        compute.chunk[after],
        compute.microbatch[after],
        seconds[: len(after)],
        needs,
    )


def _prepared(costs: Costs, compute: Operations, actions: Actions, parts: Pieces, offset: int) -> Operations:
    """The host's time before forward passes, after what their rank did before; passes are made to wait for it."""
    seconds = np.broadcast_to(costs.host.sum(axis=0), costs.forward.shape[1:])[actions.stage, actions.chunk]
    chosen = np.flatnonzero(actions.ahead & (seconds > 0))
    at = parts.first[chosen]
    needs = np.full((len(at), NEEDS), NONE)
    follows = (at > 0) & (compute.rank[at - 1] == compute.rank[at])
    needs[follows, 0] = at[follows] - 1
    compute.needs[at, NEEDS - 1] = offset + np.arange(len(at))
    return Operations(
        np.full(len(at), PREPARE), compute.rank[at], compute.chunk[at], compute.microbatch[at], seconds[chosen], needs
    )


def _updates(costs: Costs, compute: Operations, data: Operations, actions: Actions, offset: int) -> Operations:
    """On every rank: gradients known, update, overhead. `offset`: number of the first of `data`."""
    ranks = np.arange(actions.ranks)
    begins = offset + len(data)
    needs = np.full((len(ranks), 3, NEEDS), NONE)
    needs[:, 0, 0] = np.searchsorted(compute.rank, ranks, side="right") - 1
    last = np.searchsorted(data.rank, ranks, side="right")
    holds = last > np.searchsorted(data.rank, ranks)
    needs[:, 0, 1] = np.where(holds, offset + last - 1, NONE)
    if costs.synchronous:
        needs[1:, 0, 2] = begins + 3 * ranks[:-1]
        needs[:, 1, 0] = begins + 3 * ranks[-1]
    seconds = np.zeros((len(ranks), 3))
    seconds[:, 1] = costs.update[ranks % actions.stages]
    seconds[:, 2] = costs.overhead
    none = np.full(3 * len(ranks), NONE)
    kinds = np.tile([KNOWN, UPDATE, OVERHEAD], len(ranks))
    return Operations(kinds, np.repeat(ranks, 3), none, none, seconds.ravel(), needs.reshape(-1, NEEDS))
