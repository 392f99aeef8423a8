"""The cheapest treatment of one stage's tensors that fits: a mixed-integer program."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.choices import Passage
from simtrain.estimate.effects import RECOMPUTE, Effects, at_once, counts, rebuilding, summed
from simtrain.estimate.treated import copies
from simtrain.search.program import solved
from simtrain.spec.memory_plan import MOVED, MemoryPlan, StageMemory, Treatment
from simtrain.spec.memory_policy import KINDS, Policy
from simtrain.spec.tensors import TENSORS, TensorName

Array = NDArray[np.float64]
_PREFERRED: Final = 1e-6
"""What a tensor treated costs beyond its seconds, as a share of a pass: of equal plans the plainest."""


@dataclass(frozen=True)
class StageCase:
    """One stage of one layout and one microbatch; arrays have one stage."""

    layers: int
    size: Array
    """Bytes of every tensor in all its layers, shape (tensors,)."""
    effects: Effects
    passages: tuple[Passage, ...]
    passes: tuple[float, float]
    """Seconds of a forward and of a backward pass that keeps everything."""
    wait: float
    """Seconds before a backward pass in which the device waits for weights or gradients: what copies take longer than
    their passes runs beside it."""
    in_flight: float
    """Microbatches whose activations it holds at the peak."""
    room: float
    """Bytes for what comes and goes."""
    away_room: float
    """Bytes where activations wait off the device."""
    shown: float = 1.0
    """Share of the seconds treatment adds to passes by which a step grows: less where passes wait anyway, more where
    rebuilding brings messages of its own."""


@dataclass(frozen=True)
class Solution:
    """Treatment of one stage, and the seconds it adds to a microbatch."""

    tensors: dict[TensorName, Treatment]
    added: tuple[float, float]
    """To the forward and to the backward pass."""
    stalled: float = 0.0
    """Of these, waiting for copies."""


def solve(case: StageCase, policy: Policy) -> Solution | None:
    """The treatment that adds least to a microbatch's two passes; None where nothing fits.

    Variables: layers treated, of every tensor and kind; whether any is, which takes room for a layer rebuilt or
    widened, or for the two that travel; whether any is rebuilt, which takes time where that is done in chunks; and what
    copies take longer than their passes, and how much of that a wait hides. Tensors of no bytes are left alone.
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
        treated = dict(zip(KINDS, layers[row * 3 : row * 3 + 3].tolist(), strict=True))
        if any(treated.values()):
            tensors[name] = Treatment(**treated)
    return Solution(tensors, added(case, tensors), stalled(case, tensors))


def least_added(case: StageCase, policy: Policy) -> float:
    """Seconds that no treatment adds less of to a microbatch's two passes: counts need not be whole; infinite where
    nothing fits."""
    if not case.layers or not case.size.any():
        return 0.0 if case.room >= 0 else np.inf
    program = _Program(case, policy)
    found = solved(program.cost, program.rows, program.low, program.high, 0.0 * program.whole, program.most)
    return np.inf if found is None else float(program.cost @ found) * sum(case.passes)


def added(case: StageCase, tensors: dict[TensorName, Treatment]) -> tuple[float, float]:
    """Seconds a treatment adds to the forward and the backward pass of a microbatch."""
    forward, backward = (case.shown * seconds for seconds in _computed(case, tensors))
    out, back = _stalls(case, tensors)
    return forward + out, backward + back


def stalled(case: StageCase, tensors: dict[TensorName, Treatment]) -> float:
    """Seconds of a microbatch's passes in which they wait for copies."""
    return sum(_stalls(case, tensors))


def _computed(case: StageCase, tensors: dict[TensorName, Treatment]) -> tuple[float, float]:
    effect, layers = case.effects, _counts(tensors)
    backward = summed(effect.backward, layers).sum() + rebuilding(effect, layers)[0]
    return float(summed(effect.forward, layers).sum()), float(backward)


def _stalls(case: StageCase, tensors: dict[TensorName, Treatment]) -> tuple[float, float]:
    """What copies take longer than their passes and the wait between them."""
    moved = copies(case.passages, summed(case.effects.away, _counts(tensors)))
    out, back = (
        max(0.0, float(seconds[0]) - lasts - more)
        for seconds, lasts, more in zip(moved, case.passes, _computed(case, tensors), strict=True)
    )
    return max(0.0, out - max(0.0, case.wait - back)), max(0.0, back - case.wait)


def needed(case: StageCase, tensors: dict[TensorName, Treatment]) -> float:
    """Bytes of what comes and goes at the peak under a treatment; see `solve`."""
    layers = _counts(tensors)
    kept = float(case.size.sum()) - float(summed(case.effects.freed, layers)[0])
    return case.in_flight * kept + float(at_once(case.effects, layers)[0])


def _counts(tensors: dict[TensorName, Treatment]) -> Array:
    return counts(MemoryPlan(stages=(StageMemory(first=0, last=0, tensors=tensors),)), 1)


def _binding(passages: tuple[Passage, ...]) -> list[Passage]:
    """Those that some other is not slower than throughout."""
    worst = [np.array([one.out, one.back, one.taken_out[0], one.taken_back[0]]) for one in passages]
    return [
        one
        for index, one in enumerate(passages)
        if not any(
            (other >= worst[index]).all() and (place < index or (other > worst[index]).any())
            for place, other in enumerate(worst)
            if place != index
        )
    ]


class _Program:
    """Columns: three counts a tensor, three marks a tensor (0 or 1), whether any is rebuilt, two stalls, and what of
    them is hidden. Rows are in shares of what is held in all, and of both passes."""

    def __init__(self, case: StageCase, policy: Policy):
        self.names = [name for name in TENSORS if case.size[TENSORS.index(name)] > 0 and name in MOVED]
        at = np.array([TENSORS.index(name) for name in self.names], dtype=int)
        tensors = len(self.names)
        self.counted = 3 * tensors
        columns = 2 * self.counted + 4
        rebuilds, stall_out, stall_in, hidden = range(columns - 4, columns)
        chosen, marked = slice(0, self.counted), slice(self.counted, 2 * self.counted)
        usable = np.array([[policy.may(name, kind) for kind in KINDS] for name in self.names], dtype=float)
        passes, held = max(sum(case.passes), 1e-12), max(case.in_flight * float(case.size.sum()), 1e-12)
        ends = [np.inf, np.inf, case.wait / passes]
        self.most = np.concatenate([(case.layers * usable).ravel(), np.ones(self.counted + 1), ends])
        self.whole = np.concatenate([np.ones(2 * self.counted), np.zeros(4)])

        def each(effect: Array) -> Array:
            """In the order of the counts; seconds of all categories together."""
            return np.asarray(effect[..., 0][:, at].reshape(len(KINDS), tensors, -1).sum(axis=2).T.ravel())

        effect = case.effects
        forward, backward, freed, away, once = map(
            each, (effect.forward, effect.backward, effect.freed, effect.away, effect.at_once)
        )
        self.cost = np.zeros(columns)
        self.cost[chosen] = case.shown * (forward + backward) / passes + _PREFERRED / (tensors * case.layers)
        self.cost[rebuilds], self.cost[stall_out], self.cost[stall_in] = (
            case.shown * effect.rebuilt[0] / passes,
            1.0,
            1.0,
        )
        self.cost[hidden] = -1.0
        rows: list[tuple[Array, float, float]] = []

        def row(low: float, high: float, *parts: tuple[slice | int, Array | float]) -> None:
            values = np.zeros(columns)
            for where, value in parts:
                values[where] = value
            rows.append((values, low, high))

        for index, name in enumerate(self.names):
            least = case.layers if policy.always(name) else 0.0
            row(least, case.layers, (slice(3 * index, 3 * index + 3), 1.0))
        for count in range(self.counted):
            row(-np.inf, 0.0, (count, 1.0), (self.counted + count, -case.layers))
            if count % 3 == RECOMPUTE and effect.rebuilt[0]:
                row(-np.inf, 0.0, (self.counted + count, 1.0), (rebuilds, -1.0))
        row(-np.inf, case.room / held - 1.0, (chosen, -case.in_flight * freed / held), (marked, once / held))
        row(-np.inf, case.away_room / held, (chosen, case.in_flight * away / held))
        row(-np.inf, 0.0, (hidden, 1.0), (stall_out, -1.0), (stall_in, -1.0))
        for one in _binding(case.passages):
            for seconds, more, taken, stall, lasts in (
                (one.out, forward, one.taken_out[0], stall_out, case.passes[0]),
                (one.back, backward, one.taken_back[0], stall_in, case.passes[1]),
            ):
                room = (lasts - taken) / passes
                row(-np.inf, room, (chosen, (away * seconds - more) / passes), (stall, -1.0))
        self.rows, self.low, self.high = (np.array(part) for part in zip(*rows, strict=True))
