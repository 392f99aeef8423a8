"""A replayed step: its length, and what each rank's share of it is spent on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.build import build
from simtrain.timeline.costs import ALONE, Costs
from simtrain.timeline.graph import (
    COMPUTE,
    COPY_IN,
    COPY_OUT,
    DATA,
    GATHER,
    HOST,
    KNOWN,
    MESSAGE,
    OPTIMIZER,
    OVERHEAD,
    PREPARE,
    REDUCTION,
    UPDATE,
    Graph,
)
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, NONE, PHASES, Order
from simtrain.timeline.replay import Times, replay
from simtrain.timeline.slowdown import Slowdown

Array = NDArray[np.float64]
BUBBLE, SENDING, REDUCING, GATHERING, COPYING, UPDATING, BESIDES = range(len(ALONE))


@dataclass(frozen=True)
class Step:
    """One step of one plan."""

    order: Order
    costs: Costs
    graph: Graph
    times: Times
    seconds: float
    terms: Array
    """Seconds by category of the costs and by ALONE, shape (categories + len(ALONE), ranks); a column makes a step."""
    slowdown: Slowdown | None = None
    """Which replicas it has ranks of; None: they are counted through."""

    def mean_terms(self) -> Array:
        """The terms in the mean over all ranks, shape (terms,)."""
        kinds = None if self.slowdown is None else np.repeat(self.slowdown.count, self.order.stages)
        return np.asarray(np.average(self.terms, axis=1, weights=kinds))


def step(order: Order, costs: Costs, slowdown: Array | None = None, given: Array | None = None) -> Step:
    """Build and replay one step; WrongInput where the order never ends. `slowdown`, `given`: see build."""
    return played(order, costs, build(order, costs, slowdown, given))


def played(order: Order, costs: Costs, graph: Graph) -> Step:
    """Replay a graph of this order and these costs, whose operations may have been given other seconds.

    Where stages wait for one another before they update, a step lasts until the last is done. Where they do not, each
    begins the next step at once, and a step lasts as long as the slowest takes from its first pass to its last update.
    """
    times = replay(graph)
    begin, end = _span(graph, times, costs)
    seconds = float((end - begin).max())
    return Step(order, costs, graph, times, seconds, _terms(graph, times, costs, begin, end, seconds))


def _streams(graph: Graph, kind: int) -> slice:
    """All operations of one kind of stream."""
    ranks = graph.ranks
    return slice(int(graph.first[kind * ranks]), int(graph.first[(kind + 1) * ranks]))


def _span(graph: Graph, times: Times, costs: Costs) -> tuple[Array, Array]:
    """When every rank begins and ends, shape (ranks,)."""
    ranks = graph.ranks
    end = times.end[graph.first[OPTIMIZER * ranks + 1 : (OPTIMIZER + 1) * ranks + 1] - 1]
    if costs.synchronous:
        return np.zeros(ranks), end
    begin = times.start[graph.first[COMPUTE * ranks : (COMPUTE + 1) * ranks]]
    host, prepared = _streams(graph, HOST), np.zeros(ranks)
    prepared[graph.rank[host][::-1]] = graph.seconds[host][::-1]
    begin = begin - prepared
    data = _streams(graph, DATA)
    np.minimum.at(begin, graph.rank[data], times.start[data])
    return begin, end


def _terms(graph: Graph, times: Times, costs: Costs, begin: Array, end: Array, seconds: float) -> Array:
    ranks = graph.ranks
    alone = np.zeros((len(ALONE), ranks))
    compute = _streams(graph, COMPUTE)
    rank, blocked = graph.rank[compute], graph.blocked[compute]
    alone[SENDING] = np.bincount(rank, blocked, ranks)
    *gaps, prepared = waits(graph, times, begin)
    for term, gap in zip((BUBBLE, SENDING, REDUCING, GATHERING, COPYING), gaps, strict=True):
        alone[term] += np.bincount(rank, gap, ranks)
    done = times.end[graph.first[COMPUTE * ranks + 1 : (COMPUTE + 1) * ranks + 1] - 1]
    known = _at(graph, times.end, KNOWN)
    if costs.synchronous:
        alone[BUBBLE] += done.max() - done
        alone[REDUCING] += known.max() - done.max()
    else:
        alone[REDUCING] += known - done
    alone[UPDATING] = _at(graph, graph.seconds, UPDATE)
    alone[BESIDES] = _at(graph, graph.seconds, OVERHEAD)
    alone[BUBBLE] += seconds - (end - begin)
    busy = _busy(graph, costs)
    if prepared.any():
        host = costs.host.sum(axis=(1, 2))
        busy += np.outer(host / host.sum(), np.bincount(rank, prepared, ranks))
    return np.concatenate([busy, alone])


def _at(graph: Graph, values: Array, kind: int) -> Array:
    """A value of the one operation of a kind that every rank has, shape (ranks,)."""
    stream = _streams(graph, OPTIMIZER)
    return np.asarray(values[stream][graph.kind[stream] == kind])


def shares(costs: Costs) -> Array:
    """Part of a pass each category takes, shape (phases, categories, stages, chunks); 0 of a pass of no seconds."""
    parts = np.stack([costs.forward, costs.backward + costs.weight, costs.backward, costs.weight])
    whole = parts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0))


def hidden_shares(costs: Costs) -> Array:
    """Seconds of messages beside a pass over those it takes, shape (phases, categories, stages, chunks); those of
    backward passes are input gradients', and never more than stands beside them."""
    whole = costs.pass_seconds()[:, None]
    parts = np.zeros((len(PHASES), *costs.forward.shape))
    parts[FORWARD], parts[BACKWARD], parts[INPUT] = costs.hidden[0], costs.hidden[1], costs.hidden[1]
    return np.asarray(np.divide(parts, whole, out=np.zeros_like(parts), where=whole > 0))


def _busy(graph: Graph, costs: Costs) -> Array:
    """Seconds of passes by category, shape (categories, ranks)."""
    compute = _streams(graph, COMPUTE)
    stages, chunks = costs.forward.shape[1:]
    passes = graph.seconds[compute] - graph.blocked[compute]
    code = (graph.kind[compute] * graph.ranks + graph.rank[compute]) * chunks + graph.chunk[compute]
    taken = np.bincount(code, passes, len(PHASES) * graph.ranks * chunks).reshape(len(PHASES), graph.ranks, chunks)
    of_replicas = taken.reshape(len(PHASES), -1, stages, chunks)
    return np.asarray(np.einsum("pksc,prsc->krs", shares(costs), of_replicas).reshape(len(costs.forward), -1))


def waits(graph: Graph, times: Times, begin: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Seconds every pass came later than the one before allowed: in a bubble, for a message, a reduction, a gather, a
    copy, for its host.

    Arrays of shape (passes,), the graph's first operations; `begin`: when every rank's step begins.
    """
    compute = _streams(graph, COMPUTE)
    start, rank = times.start[compute], graph.rank[compute]
    before = np.concatenate([[0.0], times.end[compute][:-1]])
    opens = graph.first[COMPUTE * graph.ranks : (COMPUTE + 1) * graph.ranks]
    before[opens] = begin
    gap = np.maximum(start - before, 0.0)
    bound = times.binding[compute]
    kind = np.where(bound == NONE, NONE, graph.kind[bound])
    sent = np.where(kind == MESSAGE, graph.seconds[bound], np.where(kind < MESSAGE, graph.blocked[bound], 0.0))
    travels = np.where((bound != NONE) & (graph.rank[bound] != rank) | (kind == MESSAGE), np.minimum(gap, sent), 0.0)
    taken = np.where(kind == GATHER, np.minimum(gap, graph.seconds[bound]), 0.0)
    behind = (kind == GATHER) & (graph.kind[bound - 1] == REDUCTION) & (graph.rank[bound - 1] == rank)
    reduces = np.where(kind == REDUCTION, gap, np.where(behind, gap - taken, 0.0))
    gathers = np.where(behind, taken, np.where(kind == GATHER, gap, 0.0))
    copies = np.where((kind == COPY_OUT) | (kind == COPY_IN), gap, 0.0)
    prepared = np.where(kind == PREPARE, gap, 0.0)
    return gap - travels - reduces - gathers - copies - prepared, travels, reduces, gathers, copies, prepared
