"""When every operation of a graph runs: one walk through its streams, exact, in compiled code."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.timeline.compiled import compiled
from simtrain.timeline.graph import KINDS, Graph
from simtrain.timeline.order import NONE, Index

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """Seconds from the start of the step, and the operation that each one waited for; arrays of shape (operations,)."""

    start: Array
    end: Array
    binding: Index
    """What ended last of the operations it needed and the one before in its stream; NONE where it waited for none."""


def replay(graph: Graph) -> Times:
    """Run every stream in its order, each operation as soon as what it needs has ended.

    Raises WrongInput with the cycle where operations wait for one another.
    """
    start, end = np.zeros(len(graph)), np.full(len(graph), -1.0)
    binding = np.full(len(graph), NONE)
    done = np.empty(len(graph.first) - 1, dtype=np.int64)
    _walk(graph.first, graph.seconds, graph.needs, start, end, binding, done)
    if (done < graph.first[1:]).any():
        raise WrongInput([Problem("order", None, f"never ends: {_cycle(graph, end, done)}")])
    return Times(start, end, binding)


@compiled
def _walk(first: Index, seconds: Array, needs: Index, start: Array, end: Array, binding: Index, done: Index) -> None:
    """Fill in `start`, `end`, `binding`, and how far each stream got; -1 is the end of what has not run."""
    streams = len(first) - 1
    waiting = np.full(len(seconds), -1, np.int64)
    behind = np.full(streams, -1, np.int64)
    stack = np.arange(streams)[::-1].copy()
    height = streams
    done[:] = first[:-1]
    while height:
        height -= 1
        stream = stack[height]
        operation = done[stream]
        blocked = False
        while operation < first[stream + 1] and not blocked:
            at, bound = 0.0, -1
            if operation > first[stream]:
                at, bound = end[operation - 1], operation - 1
            for k in range(needs.shape[1]):
                needed = needs[operation, k]
                if needed < 0:
                    continue
                if end[needed] < 0:
                    behind[stream], waiting[needed] = waiting[needed], stream
                    blocked = True
                    break
                if end[needed] > at:
                    at, bound = end[needed], needed
            if blocked:
                break
            start[operation], binding[operation] = at, bound
            end[operation] = at + seconds[operation]
            follower = waiting[operation]
            while follower >= 0:
                stack[height] = follower
                height += 1
                follower = behind[follower]
            operation += 1
        done[stream] = operation


def _cycle(graph: Graph, end: Array, done: Index) -> str:
    """What streams that wait for one another in a circle would run next, and what each lacks for it."""
    stream = int(np.flatnonzero(done < graph.first[1:])[0])
    lacks: dict[int, int] = {}
    while stream not in lacks:
        lacks[stream] = next(int(n) for n in graph.needs[done[stream]] if n != NONE and end[n] < 0)
        stream = int(np.searchsorted(graph.first, lacks[stream], side="right")) - 1
    circle = list(lacks)[list(lacks).index(stream) :]
    return "; ".join(f"{_name(graph, int(done[at]))} waits for {_name(graph, lacks[at])}" for at in circle)


def _name(graph: Graph, operation: int) -> str:
    rank = graph.stream_of(operation)[1]
    what = KINDS[int(graph.kind[operation])]
    if graph.microbatch[operation] == NONE:
        return f"{what} on stage {rank}"
    chunk, microbatch = int(graph.chunk[operation]), int(graph.microbatch[operation])
    return f"{what} of microbatch {microbatch}, chunk {chunk} on stage {rank}"
