"""Speed of the replay, and of PyTorch's op tables beside it."""

import time

import numpy as np
import pytest

from simtrain.timeline.build import build
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.replay import replay
from simtrain.timeline.schedules import one_f_one_b, zero_bubble
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.step import step


def costs(stages: int, seconds: float = 1.0) -> Costs:
    """Stages that differ a little, with messages and data-parallel traffic."""
    uneven = seconds * np.linspace(1.0, 1.1, stages).reshape(1, stages, 1)
    return Costs(
        forward=uneven,
        backward=uneven,
        weight=uneven,
        hops=np.full(stages, 0.05),
        gather=Traffic(np.full((stages, 1), 0.5), hidden=0.8),
        reduction=Traffic(np.ones((stages, 1)), hidden=0.8),
        buckets=8,
        update=np.full(stages, 0.2),
    )


def test_64_stages_and_512_microbatches(benchmark) -> None:
    """1F1B drawn up, built and replayed: 20 ms. PyTorch's generator draws up the same table alone."""
    from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

    def run() -> float:
        return float(replay(build(one_f_one_b.order(64, 1, 512), costs(64))).end.max())

    benchmark.pedantic(run, rounds=20, warmup_rounds=2)
    start = time.perf_counter()
    get_schedule_ops("1F1B", 64, 512, 1)
    print(f"\nPyTorch's table alone: {1e3 * (time.perf_counter() - start):,.0f} ms")


def test_100_candidates_of_16_stages_and_96_microbatches(benchmark) -> None:
    """GPT-3 175B's pipeline: 0.5 s for 100 steps that differ in what their passes take."""
    candidates = [costs(16, seconds) for seconds in np.linspace(1, 2, 100)]

    def run() -> float:
        return min(step(one_f_one_b.order(16, 1, 96), candidate).seconds for candidate in candidates)

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("limit", [16, 32], ids=["zb-1p", "zb-2p"])
def test_search_of_16_stages_and_96_microbatches(benchmark, limit: int) -> None:
    """The zero-bubble orders tried for one plan."""
    pace = Pace(forward=1.0, backward=1.1, weight=0.8, hop=0.05)
    benchmark.pedantic(zero_bubble.order, args=(16, 96, pace, limit), rounds=10, warmup_rounds=1)
