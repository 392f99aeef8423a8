"""Activations that wait off the device: copied out beside their forward pass, and in again beside their backward pass.

A pass moves its layers' tensors while its next layers compute, through the buffers of two layers (MEMO, arXiv
2407.12117; SSDTrain, arXiv 2408.10013). What takes longer than the pass is a stall: after the forward pass before
anything else runs, before the backward pass so that no layer waits inside it. Copies in begin as soon as the pass
before is done.
"""

import numpy as np

from simtrain.timeline.actions import Actions, Pieces
from simtrain.timeline.costs import Array, Costs
from simtrain.timeline.graph import COPY_IN, COPY_OUT, NEEDS, Operations
from simtrain.timeline.order import NONE, Index


def copies(
    actions: Actions, parts: Pieces, costs: Costs, compute: Operations, offset: int
) -> tuple[Operations, Operations]:
    """The operations of both copy streams, numbered from `offset`, two a pass; passes are made to wait for theirs."""
    if not (costs.copies_out.any() or costs.copies_in.any()):
        none, no_seconds = np.empty(0, dtype=np.int64), np.empty((0, 2))
        return _stream(actions, none, COPY_OUT, no_seconds), _stream(actions, none, COPY_IN, no_seconds)
    passes = np.add.reduceat(compute.seconds, parts.first)
    where = (actions.stage, actions.chunk)
    out, back = (np.broadcast_to(part, costs.forward.shape[1:])[where] for part in (costs.copies_out, costs.copies_in))
    leaves, returns = np.flatnonzero(actions.ahead & (out > 0)), np.flatnonzero(actions.back & (back > 0))
    beside_out = np.minimum(out[leaves], passes[leaves])
    beside_in = np.minimum(back[returns], passes[returns])
    leaving = _stream(actions, leaves, COPY_OUT, np.stack([beside_out, out[leaves] - beside_out], axis=1))
    coming = _stream(actions, returns, COPY_IN, np.stack([back[returns] - beside_in, beside_in], axis=1))
    number_out = offset + 2 * np.arange(len(leaves))
    number_in = offset + len(leaving) + 2 * np.arange(len(returns))
    first = parts.first[leaves]
    leaving.needs[0::2, 0] = _before(compute, first)
    leaving.needs[0::2, 1:3] = compute.needs[first, :2]
    leaving.needs[1::2, 0] = parts.last[leaves]
    coming.needs[0::2, 0] = _before(compute, parts.first[returns])
    after = np.full(len(compute) + 1, NONE)
    after[parts.last[leaves] + 1] = number_out + 1
    coming.needs[0::2, 1] = after[parts.first[returns]]
    waits = np.flatnonzero((after[:-1] != NONE) & (_before(compute, np.arange(len(compute))) != NONE))
    compute.needs[waits, 3] = after[waits]
    compute.needs[parts.first[returns], 3] = number_in
    return leaving, coming


def _before(compute: Operations, at: Index) -> Index:
    """The operation before each on its rank; NONE where there is none."""
    before = np.maximum(at - 1, 0)
    return np.where((at > 0) & (compute.rank[before] == compute.rank[at]), before, NONE)


def _stream(actions: Actions, chosen: Index, kind: int, seconds: Array) -> Operations:
    """Two copies at each of some actions, in their order; seconds of shape (actions, 2)."""
    twice = np.repeat(chosen, 2)
    return Operations(
        np.full(len(twice), kind),
        actions.rank[twice],
        actions.chunk[twice],
        actions.microbatch[twice],
        seconds.ravel(),
        np.full((len(twice), NEEDS), NONE),
    )
