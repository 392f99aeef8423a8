"""The cheapest treatment of one stage's tensors that fits: a mixed-integer program."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.search.program import solved
from simtrain.spec.memory_plan import MOVED, Treatment
from simtrain.spec.memory_policy import KINDS, Policy
from simtrain.spec.tensors import TENSORS, TensorName
from simtrain.workload.strategies.offload import BUFFERED_LAYERS

Array = NDArray[np.float64]
_PREFERRED: Final = 1e-6
"""What a tensor treated costs beyond its seconds, as a share of a pass: of equal plans the plainest."""


@dataclass(frozen=True)
class StageCase:
    """One stage of one layout; arrays of shape (tensors,) are of all its layers and one microbatch."""

    layers: int
    size: Array
    """Bytes."""
    layer: Array
    """Bytes of one layer."""
    rebuilt: Array
    """Bytes of one layer that exist at once while it is rebuilt; less where layers are rebuilt in chunks."""
    again: Array
    """Seconds of making it again."""
    narrowed: Array
    """Seconds of keeping it in fewer bits, and as many of widening it."""
    ratio: Array
    """Bytes kept in fewer bits over those as they are."""
    away: tuple[float, float]
    """Seconds a byte off the device and back."""
    passes: tuple[float, float]
    """Seconds of a forward and of a backward pass that keeps everything."""
    in_flight: float
    """Microbatches whose activations it holds at the peak."""
    room: float
    """Bytes for what comes and goes."""
    host_room: float
    """Bytes off the device."""


@dataclass(frozen=True)
class Solution:
    """Treatment of one stage, and the seconds it adds to a microbatch."""

    tensors: dict[TensorName, Treatment]
    added: tuple[float, float]
    """To the forward and to the backward pass."""


def solve(case: StageCase, policy: Policy) -> Solution | None:
    """The treatment that adds least to a microbatch's two passes; None where nothing fits.

    Variables: layers treated, of every tensor and kind; whether any is, which takes room for a layer rebuilt or
    widened, or for the two that travel; and what copies take longer than their passes. Tensors of no bytes are
    left alone.
    """
    if not case.layers or not case.size.any():
        return Solution({}, (0.0, 0.0)) if case.room >= 0 else None
    program = _Program(case, policy)
    found = solved(program.cost, program.rows, program.low, program.high, program.whole, program.most)
    if found is None:
        return None
    layers = np.rint(found[: program.counted]).astype(int)
    tensors: dict[TensorName, Treatment] = {}
    for row, name in enumerate(program.names):
        counts = dict(zip(KINDS, layers[row * 3 : row * 3 + 3].tolist(), strict=True))
        if any(counts.values()):
            tensors[name] = Treatment(**counts)
    return Solution(tensors, added(case, tensors))


def added(case: StageCase, tensors: dict[TensorName, Treatment]) -> tuple[float, float]:
    """Seconds a treatment adds to the forward and the backward pass of a microbatch."""
    forward = backward = out = 0.0
    for name, how in tensors.items():
        at, some = TENSORS.index(name), max(case.layers, 1)
        forward += how.quantise / some * case.narrowed[at]
        backward += how.quantise / some * case.narrowed[at] + how.recompute / some * case.again[at]
        out += how.offload / some * case.size[at]
    stalls = (
        max(0.0, out * seconds - passes - more)
        for seconds, passes, more in zip(case.away, case.passes, (forward, backward), strict=True)
    )
    return forward + next(stalls), backward + next(stalls)


def needed(case: StageCase, tensors: dict[TensorName, Treatment]) -> float:
    """Bytes of what comes and goes at the peak under a treatment; see `solve`."""
    total = case.in_flight * float(case.size.sum())
    for name, how in tensors.items():
        at, some = TENSORS.index(name), max(case.layers, 1)
        gone = how.recompute + how.offload + (1 - case.ratio[at]) * how.quantise
        total -= case.in_flight * gone / some * case.size[at]
        total += (how.recompute > 0) * case.rebuilt[at] + (how.quantise > 0) * case.layer[at]
        total += (how.offload > 0) * BUFFERED_LAYERS * case.layer[at]
    return total


class _Program:
    """Columns: three counts a tensor, three marks a tensor (0 or 1), two stalls. Rows are in shares of what is held in
    all, and of both passes."""

    def __init__(self, case: StageCase, policy: Policy):
        self.names = [name for name in TENSORS if case.size[TENSORS.index(name)] > 0 and name in MOVED]
        at = np.array([TENSORS.index(name) for name in self.names], dtype=int)
        tensors, some = len(self.names), max(case.layers, 1)
        self.counted = 3 * tensors
        columns = 2 * self.counted + 2
        stall_out, stall_in = columns - 2, columns - 1
        usable = np.array([[policy.may(name, kind) for kind in KINDS] for name in self.names], dtype=float)
        self.most = np.concatenate([(case.layers * usable).ravel(), np.ones(self.counted), [np.inf, np.inf]])
        self.whole = np.concatenate([np.ones(2 * self.counted), np.zeros(2)])
        self.rows = np.zeros((tensors + self.counted + 4, columns))
        self.low, self.high = np.full(self.rows.shape[0], -np.inf), np.zeros(self.rows.shape[0])
        size, again, narrowed = case.size[at] / some, case.again[at] / some, case.narrowed[at] / some
        self.cost = np.zeros(columns)
        self.cost[0 : self.counted : 3], self.cost[2 : self.counted : 3] = again, 2 * narrowed
        self.cost[[stall_out, stall_in]] = 1.0
        plainest = _PREFERRED * sum(case.passes) / max(tensors * case.layers, 1)
        self.cost[: self.counted] += plainest
        room, host, out, back = range(tensors + self.counted, tensors + self.counted + 4)
        for row in range(tensors):
            first = 3 * row
            self.rows[row, first : first + 3] = 1.0
            self.high[row] = case.layers
            self.low[row] = case.layers if policy.always(self.names[row]) else 0.0
            for kind in range(3):
                self.rows[tensors + first + kind, first + kind] = 1.0
                self.rows[tensors + first + kind, self.counted + first + kind] = -case.layers
            gone = np.array([1.0, 1.0, 1 - case.ratio[at[row]]]) * case.in_flight * size[row]
            self.rows[room, first : first + 3] = -gone
            at_once = [case.rebuilt[at[row]], BUFFERED_LAYERS * case.layer[at[row]], case.layer[at[row]]]
            self.rows[room, self.counted + first : self.counted + first + 3] = np.array(at_once)
            self.rows[host, first + 1] = case.in_flight * size[row]
            self.rows[out, first + 1], self.rows[out, first + 2] = case.away[0] * size[row], -narrowed[row]
            self.rows[back, first + 1], self.rows[back, first + 2] = case.away[1] * size[row], -narrowed[row]
            self.rows[back, first] = -again[row]
        self.high[room] = case.room - case.in_flight * float(case.size.sum())
        self.high[host] = case.host_room
        self.high[out], self.high[back] = case.passes
        whole, passes = case.in_flight * float(case.size.sum()), sum(case.passes)
        for row, scale in ((room, whole), (host, whole), (out, passes), (back, passes)):
            self.rows[row] = self.rows[row] / max(scale, 1e-12)
            self.high[row] /= max(scale, 1e-12)
        self.rows[out, stall_out] = self.rows[back, stall_in] = -1.0
        self.cost[: self.counted] /= max(passes, 1e-12)
