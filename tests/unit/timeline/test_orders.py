"""Every schedule against the op tables and the checks of torch.distributed.pipelining."""

from dataclasses import replace

import numpy as np
import pytest
from pipelines import SCHEDULES, written
from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops
from torch.distributed.pipelining.schedules import _Action, _validate_schedule

from simtrain.timeline.order import BACKWARD, INPUT, NONE, WEIGHT, mistakes
from simtrain.timeline.schedules import breadth_first, dual_pipe_v, gpipe, interleaved, one_f_one_b


def torch_table(schedule: str, stages: int, microbatches: int, chunks: int) -> list[list[str]]:
    """PyTorch's passes of every rank; those it runs at once one after the other."""
    rows = get_schedule_ops(schedule, stages, microbatches, chunks)
    ops = [[op for op in row if op is not None and op.computation_type.name != "REDUCE_GRAD"] for row in rows]
    return [[str(part) for op in row for part in op.sub_actions or [op]] for row in ops]


@pytest.mark.parametrize(
    ("schedule", "order", "chunks"),
    [
        ("GPipe", gpipe.order, (1,)),
        ("Interleaved1F1B", interleaved.order, (2, 3, 5)),
        ("LoopedBFS", breadth_first.order, (2, 3, 5)),
        ("DualPipeV", dual_pipe_v.order, (2,)),
    ],
    ids=["gpipe", "interleaved", "breadth-first", "dual-pipe-v"],
)
@pytest.mark.parametrize(("stages", "microbatches"), [(2, 4), (4, 8), (4, 12), (5, 10), (8, 16), (8, 64)])
def test_the_table_is_that_of_torch(schedule, order, chunks, stages: int, microbatches: int) -> None:
    for several in chunks:
        found = written(order(stages, several, microbatches))
        assert found == torch_table(schedule, stages, microbatches, several), several


@pytest.mark.parametrize(("stages", "microbatches"), [(3, 7), (4, 11)])
def test_dual_pipe_v_is_that_of_torch_at_odd_counts(stages: int, microbatches: int) -> None:
    assert written(dual_pipe_v.order(stages, 2, microbatches)) == torch_table("DualPipeV", stages, microbatches, 2)


@pytest.mark.parametrize(("stages", "microbatches"), [(2, 2), (2, 4), (4, 4), (4, 8), (4, 11), (8, 16), (8, 64)])
def test_1f1b_is_that_of_torch(stages: int, microbatches: int) -> None:
    """On the last rank torch 2.13 counts the microbatches of the forward passes from 1 (3F1 to 3F8 for 3F0 to 3F7), a
    slip of its op table alone, so that rank's phases are compared."""
    ours = written(one_f_one_b.order(stages, 1, microbatches))
    theirs = torch_table("1F1B", stages, microbatches, 1)
    assert ours[:-1] == theirs[:-1]
    assert [action.rstrip("0123456789") for action in ours[-1]] == [a.rstrip("0123456789") for a in theirs[-1]]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("stages", "rounds"), [(2, 2), (4, 2), (5, 3), (8, 4)])
def test_torch_could_run_it(schedule: str, stages: int, rounds: int) -> None:
    """PyTorch's own check: every pass once, on one rank, a gradient after its forward pass, weights after inputs."""
    chunks, order = SCHEDULES[schedule]
    found = order(stages, chunks, stages * rounds)
    table = {rank: [_Action.from_str(cell) for cell in row] for rank, row in enumerate(written(found))}
    mapping = _validate_schedule(table, stages, stages * chunks, stages * rounds)
    assert mapping == {int(at): stage for stage, row in enumerate(found.place) for at in row}
    assert mistakes(found) == []


def test_mistakes_are_named() -> None:
    """A forward pass twice in the place of another, a gradient gone, a weight gradient of a pass that gave it."""
    whole = one_f_one_b.order(2, 1, 3)
    microbatch, phase = whole.microbatch.copy(), whole.phase.copy()
    assert written(whole)[0] == ["0F0", "0F1", "0B0", "0F2", "0B1", "0B2"]
    microbatch[0, 1] = 0
    phase[0, 5] = NONE
    phase[1, 1] = WEIGHT
    found = mistakes(replace(whole, microbatch=microbatch, phase=phase))
    assert found == ["0F0 stands there 2 times", "0F1 is missing", "0B2 is missing", "1I0 is missing"]
    again = np.where(whole.phase == BACKWARD, INPUT, whole.phase)
    again[0, 2], again[0, 3] = BACKWARD, WEIGHT
    microbatch = whole.microbatch.copy()
    microbatch[0, 3] = 0
    expected = ["0F2", "0W1", "0W2", "1W0", "1W1", "1W2"]
    assert mistakes(replace(whole, microbatch=microbatch, phase=again)) == [
        *(f"{action} is missing" for action in expected),
        "0W0 repeats a part of 0B0",
    ]
