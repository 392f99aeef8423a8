"""DualPipeV (deepseek-ai/DualPipe dualpipe/dualpipev.py): a V whose two ways run against each other.

Where its steady state runs a forward and a backward pass at once, they stand one after the other here.
"""

import numpy as np

from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, WEIGHT, Index, Order, folded, joined

DOWN, UP = 0, 1


class _Row:
    """Actions of a stage, each on the next microbatch of its chunk; weight gradients in the order they fall due."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []
        self._next = {(chunk, phase): 0 for chunk in (DOWN, UP) for phase in (FORWARD, BACKWARD)}
        self._due: list[tuple[int, int]] = []

    def run(self, chunk: int, phase: int) -> None:
        way = FORWARD if phase == FORWARD else BACKWARD
        microbatch = self._next[chunk, way]
        self._next[chunk, way] += 1
        self.rows.append((chunk, microbatch, phase))
        if phase == INPUT:
            self._due.append((chunk, microbatch))

    def weight(self) -> None:
        self.rows.append((*self._due.pop(0), WEIGHT))


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """The eight steps of the published loop, for two chunks and at least two microbatches a stage."""
    return joined([_row(stages, stage, microbatches) for stage in range(stages)], folded(stages, chunks))


def _row(stages: int, stage: int, microbatches: int) -> Index:
    row, behind, ahead = _Row(), stages - stage - 1, stage + 1
    for _ in range(2 * behind):
        row.run(DOWN, FORWARD)
    for _ in range(ahead):
        row.run(DOWN, FORWARD)
        row.run(UP, FORWARD)
    for _ in range(behind):
        row.run(UP, INPUT)
        row.weight()
        row.run(UP, FORWARD)
    for _ in range(microbatches - 2 * stages + ahead):
        row.run(DOWN, FORWARD)
        row.run(UP, BACKWARD)
        row.run(UP, FORWARD)
        row.run(DOWN, BACKWARD)
    for _ in range(behind):
        row.run(UP, BACKWARD)
        row.run(UP, FORWARD)
        row.run(DOWN, BACKWARD)
    for done in range(ahead):
        half = ahead // 2
        row.run(UP, INPUT if done > half or (done == half and stage % 2 == 1) else BACKWARD)
        row.run(DOWN, INPUT if done >= half else BACKWARD)
    for _ in range(behind):
        row.weight()
        row.run(DOWN, INPUT)
    for _ in range(ahead):
        row.weight()
    return np.array(row.rows, dtype=np.int64)
