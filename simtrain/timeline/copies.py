"""Activations that wait in host memory: copied out after a forward pass, and in again ahead of its backward pass."""

import numpy as np

from simtrain.timeline.actions import Actions, Pieces
from simtrain.timeline.costs import Costs
from simtrain.timeline.graph import COPY_IN, COPY_OUT, NEEDS, Operations
from simtrain.timeline.order import NONE, Index


def copies(
    actions: Actions, parts: Pieces, costs: Costs, compute: Operations, offset: int
) -> tuple[Operations, Operations]:
    """The operations of both copy streams, numbered from `offset`; backward passes are made to wait for theirs.

    A rank copies in for one backward pass while the one before runs, no further ahead.
    """
    if not costs.copies.any():
        none = np.empty(0, dtype=np.int64)
        return _stream(actions, costs, none, COPY_OUT, ()), _stream(actions, costs, none, COPY_IN, ())
    moved = costs.copies[actions.stage, actions.chunk] > 0
    leaves, returns = np.flatnonzero(actions.ahead & moved), np.flatnonzero(actions.back & moved)
    number = np.full(len(actions.phase), NONE)
    number[leaves] = offset + np.arange(len(leaves))
    forward = actions.found[0, actions.replica[returns], actions.position[returns], actions.microbatch[returns]]
    back = np.flatnonzero(actions.back)
    second = _before(back, actions.rank, 2)[np.searchsorted(back, returns)]
    freed = np.where(second == NONE, NONE, parts.last[second])
    compute.needs[parts.first[returns], 3] = offset + len(leaves) + np.arange(len(returns))
    return (
        _stream(actions, costs, leaves, COPY_OUT, (parts.last[leaves],)),
        _stream(actions, costs, returns, COPY_IN, (number[forward], freed)),
    )


def _before(chosen: Index, rank: Index, steps: int) -> Index:
    """Of actions in order, the one so many before each on its rank; NONE where there is none."""
    found = np.concatenate([np.full(steps, NONE), chosen])[: len(chosen)]
    return np.where((found != NONE) & (rank[found] == rank[chosen]), found, NONE)


def _stream(actions: Actions, costs: Costs, chosen: Index, kind: int, needed: tuple[Index, ...]) -> Operations:
    """Copies at some actions, in their order."""
    needs = np.full((len(chosen), NEEDS), NONE)
    for column, needs_this in enumerate(needed):
        needs[:, column] = needs_this
    stage, chunk = actions.stage[chosen], actions.chunk[chosen]
    seconds = costs.copies[stage, chunk]
    return Operations(
        np.full(len(chosen), kind), actions.rank[chosen], chunk, actions.microbatch[chosen], seconds, needs
    )
