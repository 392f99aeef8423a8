"""One step as a graph: operations in streams, each run in the order it was issued and after those it needs."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.order import PHASES, Index

STREAMS: Final = ("compute", "pipeline", "data", "optimizer", "device to host", "host to device", "host")
COMPUTE, PIPELINE, DATA, OPTIMIZER, TO_HOST, TO_DEVICE, HOST = range(len(STREAMS))
KINDS: Final = (
    *PHASES,
    "message",
    "parameter gathering",
    "gradient reduction",
    "gradients known",
    "update",
    "overhead",
    "copy out",
    "copy in",
    "host",
)
MESSAGE, GATHER, REDUCTION, KNOWN, UPDATE, OVERHEAD, COPY_OUT, COPY_IN, PREPARE = range(len(PHASES), len(KINDS))
NEEDS: Final = 5
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Operations:
    """Operations of one kind of stream, rank after rank in the order they are issued; arrays of shape (operations,)."""

    kind: Index
    """Index into KINDS."""
    rank: Index
    chunk: Index
    microbatch: Index
    seconds: Array
    needs: Index
    """Operations of the graph that must have ended, shape (operations, NEEDS); NONE where there is no more."""

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Graph:
    """All operations of a step, stream after stream, those of the first kind of stream first; see Operations.

    A rank is a stage of a data-parallel replica, replica after replica.
    """

    kind: Index
    rank: Index
    chunk: Index
    microbatch: Index
    seconds: Array
    """Replace it to give operations other durations, e.g. of another clock."""
    needs: Index
    first: Index
    """Where each stream begins, shape (kinds of streams x ranks + 1,)."""
    blocked: Array
    """Seconds at the end of an operation in which it only sends."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def ranks(self) -> int:
        """Stages of all replicas."""
        return (len(self.first) - 1) // len(STREAMS)

    def stream(self, kind: int, rank: int) -> slice:
        """The operations of a stream."""
        at = kind * self.ranks + rank
        return slice(int(self.first[at]), int(self.first[at + 1]))

    def stream_of(self, operation: int) -> tuple[int, int]:
        """Kind of stream and rank of an operation."""
        kind, rank = divmod(int(np.searchsorted(self.first, operation, side="right")) - 1, self.ranks)
        return kind, rank


def assembled(streams: tuple[Operations, ...], ranks: int, blocked: Array) -> Graph:
    """The graph of operations in the order of STREAMS; their `needs` count through all of them."""
    starts = [
        offset + np.searchsorted(part.rank, np.arange(ranks))
        for part, offset in zip(streams, np.cumsum([0, *map(len, streams)]), strict=False)
    ]
    total = sum(map(len, streams))
    kind, rank, chunk, microbatch, seconds, needs = (
        np.concatenate([getattr(part, name) for part in streams]) for name in Operations.__dataclass_fields__
    )
    return Graph(
        kind,
        rank,
        chunk,
        microbatch,
        seconds,
        needs,
        first=np.concatenate([*starts, [total]]),
        blocked=np.concatenate([blocked, np.zeros(total - len(blocked))]),
    )
