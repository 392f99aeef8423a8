"""Seconds of a block: every op once, in its category; overlap and launches at their bounds."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job, uncalibrated

from simtrain.price import collectives, kernels
from simtrain.price.blocks import (
    ATTENTION,
    CATEGORIES,
    CONTEXT,
    ELEMENTWISE,
    EXPERT,
    HEADS,
    LAUNCH,
    MATMUL,
    TENSOR,
    block_time,
)
from simtrain.spec.hardware import Checks
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.validation.fabric import with_checks
from simtrain.workload import blocks
from simtrain.workload.op import Block, Elementwise, Matmul, Message, Op, Saved
from simtrain.workload.shard import Shard


def with_stack(asked: Job, **values: Any) -> Job:
    """The job with other facts of its stack; `tensor=0.5` and the like are overlaps."""
    stack = asked.stack
    for name, value in values.items():
        where = stack.overlap if name in type(stack.overlap).model_fields else stack
        changed = where.model_copy(update={name: getattr(where, name).model_copy(update={"value": value})})
        stack = changed if where is stack else stack.model_copy(update={"overlap": changed})  # type: ignore[assignment]
    return asked.model_copy(update={"stack": stack})


ASKED = job("mixtral-8x7b", gpus=32, seq=4096)
BARE = with_stack(ASKED, tensor=0.0, context=0.0, expert=0.0, launch=0.0)
PLANS = PlanTable.of([Plan(tp=4, sp=True, cp_ring=2, ep=4, micro_batch=2), Plan(), Plan(tp=8), Plan(cp_head=4)])
CHECKS = Checks.model_validate(
    {
        "inside": {"value": "1000 us", "source": "a test", "evidence": "assumed"},
        "across": {"value": "3000 us", "source": "a test", "evidence": "assumed"},
    }
)
LAYER = blocks.layer(Shard(ASKED, PLANS), True, True)


def timed(asked: Job, block: Block = LAYER, plans: PlanTable = PLANS) -> Any:
    return block_time(block, asked, uncalibrated(asked), len(plans))


def test_a_block_takes_the_sum_of_its_ops() -> None:
    """Each op priced on its own, by the functions that price it alone; those beside a longer product show nothing."""
    on, found = uncalibrated(BARE), timed(BARE)
    ops = [op for op in LAYER.ops if not (isinstance(op.work, Message) and op.work.hidden)]
    every = [block_time(Block("head", (op,), Saved(0.0, 0.0), 0.0), BARE, on, len(PLANS)) for op in ops]
    for phase in ("forward", "backward"):
        assert getattr(found, phase) == pytest.approx(sum(getattr(one, phase) for one in every))


def test_prices_are_those_of_the_kernels() -> None:
    on = uncalibrated(BARE)
    product, passed = Matmul(4096, 8192, 1024), Elementwise(1e9, 0.0)
    sent = Message("all_gather", "tensor", 1e8, np.array([4]), np.array([1]), 3.0)
    ops = (
        Op("product", "projection", "forward", product, 0.5),
        Op("pass", "norm", "forward", passed),
        Op("sent", "projection", "backward", sent),
    )
    found = block_time(Block("head", ops, Saved(0.0, 0.0), 0.0), BARE, on, 1)
    rate = BARE.stack.matmul_rate.value
    alone = kernels.matmul(on.profile, BARE.precision.matmul, 4096, 8192, 1024).seconds
    assert found.forward[MATMUL, 0] == pytest.approx(0.5 * float(alone) / rate)
    assert found.forward[ELEMENTWISE, 0] == pytest.approx(float(kernels.memory_bound(on.profile, 1e9).seconds))
    gather = collectives.collective_seconds(on.network, "all_gather", 1e8, collectives.group(4, 1, on.network.domain))
    assert found.backward[TENSOR, 0] == pytest.approx(3 * float(gather.seconds))


def test_categories_appear_where_they_are_used() -> None:
    """Rows of PLANS: everything, one device, tensor ranks alone, Ulysses alone."""
    found = timed(BARE).forward
    used = {row: (found[row] > 0).tolist() for row in (MATMUL, ATTENTION, ELEMENTWISE, TENSOR, HEADS, CONTEXT, EXPERT)}
    assert used[MATMUL] == used[ATTENTION] == used[ELEMENTWISE] == [True] * 4
    assert used[TENSOR] == [True, False, True, False]
    assert used[HEADS] == [False, False, False, True]
    assert used[CONTEXT] == [True, False, False, False]
    assert used[EXPERT] == [True, False, False, False]


@given(st.floats(0, 1))
def test_overlap_hides_a_share_and_never_more_than_the_compute(share: float) -> None:
    shown, hidden = timed(BARE), timed(with_stack(BARE, tensor=share))
    for before, after in ((shown.forward, hidden.forward), (shown.backward, hidden.backward)):
        gone = before[TENSOR] - after[TENSOR]
        assert gone == pytest.approx(np.minimum(share * before[TENSOR], before[MATMUL]))
        rest = [row for row in range(len(CATEGORIES)) if row != TENSOR]
        assert (before[rest] == after[rest]).all()


def test_two_overlaps_share_the_products_they_hide_behind() -> None:
    """Tensor and expert messages together hide behind no more than the products take."""
    group, apart = np.array([4]), np.array([1])
    block = Block(
        "head",
        (
            Op("product", "projection", "forward", Matmul(4096, 4096, 4096)),
            Op("tensor", "projection", "forward", Message("all_gather", "tensor", 1e9, group, apart)),
            Op("expert", "routing", "forward", Message("all_to_all", "expert", 1e9, group, apart)),
        ),
        Saved(0.0, 0.0),
        0.0,
    )
    plans = PlanTable.of([Plan()])
    shown, hidden = (timed(asked, block, plans).forward for asked in (BARE, with_stack(BARE, tensor=1.0, expert=1.0)))
    assert (shown - hidden)[[TENSOR, EXPERT]].sum() == pytest.approx(shown[MATMUL].sum())


def test_a_message_beside_a_product_shows_what_outlasts_it() -> None:
    """Of two products one gives the input's gradient; beside the other nothing runs."""

    def shown(size: float) -> tuple[float, float]:
        again = Message("all_gather", "tensor", size, np.array([4]), np.array([1]), hidden=True)
        product = Op("gradient", "projection", "backward", Matmul(4096, 8192, 4096, operand="input"))
        block = Block("head", (product, product, Op("again", "projection", "backward", again)), Saved(0.0, 0.0), 0.0)
        found = timed(BARE, block, PlanTable.of([Plan()])).backward
        return found[TENSOR, 0], found[MATMUL, 0] / 2

    on = uncalibrated(BARE)
    whole = collectives.collective_seconds(on.network, "all_gather", 1e9, collectives.group(4, 1, on.network.domain))
    assert shown(1e6)[0] == 0
    showing, product = shown(1e9)
    assert showing == pytest.approx(float(whole.seconds) - product)


def test_a_block_takes_no_less_than_comparing_its_calls() -> None:
    """Two calls over 16 ranks, eight of them in the node, and one more that runs beside a product."""
    asked = BARE.model_copy(update={"cluster": with_checks(BARE.cluster, CHECKS)})
    ranks, apart = np.array([16]), np.array([1])
    sent = Message("all_gather", "tensor", 1e3, ranks, apart, 2.0)
    again = Message("all_gather", "tensor", 1e3, ranks, apart, hidden=True)
    ops = (Op("sent", "projection", "backward", sent), Op("again", "projection", "backward", again))
    found = timed(asked, Block("head", ops, Saved(0.0, 0.0), 0.0), PlanTable.of([Plan(tp=16)]))
    assert found.backward.sum() == pytest.approx(3 * (8 * 1e-3 + 8 * 3e-3))
    assert found.forward.sum() == 0


def test_a_layer_takes_no_less_than_its_launches() -> None:
    kernels_ = ASKED.stack.layer_kernels.value
    slow = timed(with_stack(BARE, launch=1.0))
    assert slow.forward.sum(axis=0) == pytest.approx(kernels_)
    assert slow.backward.sum(axis=0) == pytest.approx(2 * kernels_)
    assert (timed(BARE).forward[LAUNCH] == 0).all()


@pytest.mark.parametrize(
    ("stack", "rows"), [("megatron-core", {ATTENTION}), ("torchtitan", {ELEMENTWISE}), ("deepspeed", set())]
)
def test_selective_recomputation_runs_its_roles_again(stack: str, rows: set[int]) -> None:
    """No message is sent again: the outputs of attention are rebuilt from what was received."""
    asked = with_stack(job("llama-3-8b", gpus=32, seq=4096, stack=stack), tensor=0.0, context=0.0)
    plans = PlanTable.of([Plan(tp=2, cp_ring=2)])
    found = timed(asked, blocks.layer(Shard(asked, plans), False, True), plans)
    assert set(np.flatnonzero(found.selective[:, 0])) == rows
    for row in rows:
        assert 0 < found.selective[row, 0] <= found.forward[row, 0]
