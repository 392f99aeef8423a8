"""Data-parallel traffic at the passes it belongs to: gathered weights before and beside them, gradients after."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.actions import Actions, Pieces
from simtrain.timeline.costs import Costs
from simtrain.timeline.graph import GATHER, NEEDS, REDUCTION, Operations
from simtrain.timeline.order import NONE, Index

Array = NDArray[np.floating[Any]]
BEFORE, BESIDE_GATHER, BESIDE_REDUCTION, AFTER, LAST = range(5)
"""Place at a pass; LAST: after all of a rank."""
Entry = tuple[Index, int, Array]
"""Pieces of passes, place, seconds."""


def traffic(actions: Actions, parts: Pieces, costs: Costs, compute: Operations, offset: int) -> Operations:
    """The data streams' operations, numbered from `offset`; `compute.needs` is filled in where passes wait for them.

    Replicas meet in a reduction: none begins before all have arrived (an operation of no seconds each).
    """
    entries = [*_gathered(actions, parts, costs), *_reduced(actions, parts, costs)]
    at = np.concatenate([entry[0] for entry in entries])
    place = np.repeat([entry[1] for entry in entries], [len(entry[0]) for entry in entries])
    seconds = np.concatenate([entry[2] for entry in entries])
    order = np.lexsort((place, at))
    order = order[seconds[order] > 0]
    replicas = actions.ranks // actions.stages
    meets = (place[order] >= BESIDE_REDUCTION) & (replicas > 1)
    row = np.repeat(order, 1 + meets)
    arrives = np.zeros(len(row), dtype=bool)
    arrives[np.cumsum(1 + meets)[meets] - 2] = True
    at, place, seconds = at[row], place[row], np.where(arrives, 0.0, seconds[row])
    needs = _needs(at, place, compute.rank, costs)
    number = offset + np.arange(len(row))
    if replicas > 1:
        each = len(row) // replicas
        replica = compute.rank[at] // actions.stages
        needs[arrives, 1] = np.where(replica > 0, number - each, NONE)[arrives]
        joined = np.roll(arrives, 1)
        needs[joined, 1] = (number - 1 + (replicas - 1 - replica) * each)[joined]
    _await(compute, at, place, number, costs.reduction.every)
    kinds = np.where(place <= BESIDE_GATHER, GATHER, REDUCTION)
    return Operations(kinds, compute.rank[at], compute.chunk[at], compute.microbatch[at], seconds, needs)


def _gathered(actions: Actions, parts: Pieces, costs: Costs) -> list[Entry]:
    gather, where = costs.gather, (actions.stage, actions.chunk)
    if gather.every:
        whole = gather.seconds[where] * actions.ahead + gather.again[where] * actions.back
        return [
            (parts.first, BEFORE, (1 - gather.hidden) * whole),
            (parts.last, BESIDE_GATHER, gather.hidden * whole),
        ]
    opens = parts.opens
    whole = gather.seconds[actions.stage[opens], actions.chunk[opens]]
    begins = parts.first[np.searchsorted(actions.rank, np.arange(actions.ranks))]
    alone = (1 - gather.hidden) * np.bincount(actions.rank[opens], whole)
    return [(begins, BEFORE, alone), _spread(parts, opens, BESIDE_GATHER, gather.hidden * whole)]


def _reduced(actions: Actions, parts: Pieces, costs: Costs) -> list[Entry]:
    reduction = costs.reduction
    ends = parts.last[np.searchsorted(actions.rank, np.arange(actions.ranks), side="right") - 1]
    both = ends[np.isin(np.arange(actions.ranks) % actions.stages, (0, actions.stages - 1))]
    tied: Entry = (both, LAST, np.full(len(both), costs.tied))
    if reduction.every:
        whole = reduction.seconds[actions.stage, actions.chunk] * actions.gives
        beside = (parts.last, BESIDE_REDUCTION, reduction.hidden * whole)
        return [tied, beside, (parts.last, AFTER, (1 - reduction.hidden) * whole)]
    closes = parts.closes
    whole = reduction.seconds[actions.stage[closes], actions.chunk[closes]]
    alone = (1 - reduction.hidden) * np.bincount(actions.rank[closes], whole)
    return [tied, _spread(parts, closes, BESIDE_REDUCTION, reduction.hidden * whole), (ends, AFTER, alone)]


def _spread(parts: Pieces, chosen: Index, place: int, seconds: Array) -> Entry:
    """Seconds of some actions over their pieces."""
    count = parts.count[chosen]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(parts.first[chosen], count) + within, place, np.repeat(seconds / count, count)


def _needs(at: Index, place: Index, rank: Index, costs: Costs) -> Index:
    """What the operations need of the passes: their own where they move its result, else the one before theirs, as no
    more is gathered ahead; nothing where all is gathered once."""
    needs = np.full((len(at), NEEDS), NONE)
    before = np.maximum(at - 1, 0)
    begins = np.where((at > 0) & (rank[before] == rank[at]), before, NONE)
    after = (place >= AFTER) | ((place == BESIDE_REDUCTION) & (not costs.reduction.every))
    freely = (place == BESIDE_GATHER) & (not costs.gather.every)
    needs[:, 0] = np.where(after, at, np.where(freely, NONE, begins))
    return needs


def _await(compute: Operations, at: Index, place: Index, number: Index, every: bool) -> None:
    """Let passes wait for what stands before them, and for what ran beside the pass before where it is awaited."""
    own = place == BEFORE
    compute.needs[at[own], 1] = number[own]
    awaited = (place == BESIDE_GATHER) | ((place >= BESIDE_REDUCTION) & every)
    at, number = at[awaited], number[awaited]
    follows = np.minimum(at + 1, len(compute) - 1)
    same = (compute.rank[follows] == compute.rank[at]) & (follows > at)
    compute.needs[follows[same], 2] = number[same]
