"""Seconds of a block: every op once, in its category; overlap and launches at their bounds."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job, uncalibrated

from simtrain.laws import collectives as laws
from simtrain.price import collectives, kernels
from simtrain.price.blocks import block_time
from simtrain.price.categories import ATTENTION, CATEGORIES, CONTEXT, ELEMENTWISE, EXPERT, HEADS, LAUNCH, MATMUL, TENSOR
from simtrain.price.launched import launched, queued
from simtrain.spec.hardware import Checks
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.validation.fabric import with_checks
from simtrain.workload import blocks, ends, passes
from simtrain.workload.op import Block, Elementwise, Matmul, Message, Op, Phase, Saved
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
BARE = with_stack(ASKED, tensor=0.0, context=0.0, expert=0.0, launch=0.0, collective_wait=0.0)
PLANS = PlanTable.of([Plan(tp=4, sp=True, cp_ring=2, ep=4, micro_batch=2), Plan(), Plan(tp=8), Plan(cp_head=4)])
PHASES: Final[tuple[Phase, Phase]] = ("forward", "backward")
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
    every = [block_time(Block("head", (op,), Saved({}, 0.0), 0.0), BARE, on, len(PLANS)) for op in ops]
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
    found = block_time(Block("head", ops, Saved({}, 0.0), 0.0), BARE, on, 1)
    rate = BARE.stack.matmul_rate.value
    alone = kernels.matmul(on.profile, BARE.precision.matmul, 4096, 8192, 1024, queued=True).seconds
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
        Saved({}, 0.0),
        0.0,
    )
    plans = PlanTable.of([Plan()])
    shown, hidden = (timed(asked, block, plans).forward for asked in (BARE, with_stack(BARE, tensor=1.0, expert=1.0)))
    assert (shown - hidden)[[TENSOR, EXPERT]].sum() == pytest.approx(shown[MATMUL].sum())


@pytest.mark.parametrize("launch", [0.0, 1.0])
def test_ranks_wait_for_the_last_at_a_reduction(launch: float) -> None:
    """A gather follows a reduction, so only reductions wait: a spread for each of the layer's, even host bound."""
    plans = PlanTable.of([Plan(tp=8, sp=True), Plan(tp=8)])
    layer = blocks.layer(Shard(BARE, plans), True, True)
    waiting = (with_stack(BARE, launch=launch, collective_wait=wait) for wait in (0.0, 1.0))
    still, spread = (timed(asked, layer, plans).forward.sum(axis=0) for asked in waiting)
    waited = (spread - still) / laws.spread(8)
    assert waited == pytest.approx([1.0, 1.0])


def test_unaligned_rows_slow_a_product() -> None:
    product = Matmul(4096, 50257, 2048, aligned=np.array([True, False]))
    block = Block("head", (Op("logits", "loss", "forward", product),), Saved({}, 0.0), 0.0)
    seconds = timed(BARE, block, PlanTable.of([Plan(), Plan()])).forward[MATMUL]
    assert seconds[1] == pytest.approx(seconds[0] / kernels.UNALIGNED_RATE)


def test_a_message_beside_a_product_shows_what_outlasts_it() -> None:
    """Of two products one gives the input's gradient; beside the other nothing runs."""

    def shown(size: float) -> tuple[float, float]:
        again = Message("all_gather", "tensor", size, np.array([4]), np.array([1]), hidden=True)
        product = Op("gradient", "projection", "backward", Matmul(4096, 8192, 4096, operand="input"))
        block = Block("head", (product, product, Op("again", "projection", "backward", again)), Saved({}, 0.0), 0.0)
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
    found = timed(asked, Block("head", ops, Saved({}, 0.0), 0.0), PlanTable.of([Plan(tp=16)]))
    assert found.backward.sum() == pytest.approx(3 * (8 * 1e-3 + 8 * 3e-3))
    assert found.forward.sum() == 0


def test_a_layer_takes_no_less_than_its_launches() -> None:
    kernels_ = ASKED.stack.layer_kernels.value
    slow = timed(with_stack(BARE, launch=1.0))
    assert slow.forward.sum(axis=0) == pytest.approx(kernels_)
    assert slow.backward.sum(axis=0) == pytest.approx(2 * kernels_)
    assert (timed(BARE).forward[LAUNCH] == 0).all()
    asked = with_stack(BARE, launch=1.0, fused_norm=False)
    eager = timed(asked, blocks.layer(Shard(asked, PLANS), True, True))
    norm = passes.norm(2.0, fused=False)
    assert eager.forward.sum(axis=0) == pytest.approx(kernels_ + 2 * (norm.kernels - 1))
    assert eager.backward.sum(axis=0) == pytest.approx(2 * kernels_ + 2 * (norm.backward_kernels - 1))


@pytest.mark.parametrize(
    ("stack", "rows"), [("megatron-core", {ATTENTION}), ("torchtitan", {MATMUL, ELEMENTWISE}), ("deepspeed", set())]
)
def test_selective_recomputation_runs_its_roles_again(stack: str, rows: set[int]) -> None:
    """No message is sent again: the outputs of attention are rebuilt from what was received."""
    asked = with_stack(job("llama-3-8b", gpus=32, seq=4096, stack=stack), tensor=0.0, context=0.0)
    plans = PlanTable.of([Plan(tp=2, cp_ring=2)])
    found = timed(asked, blocks.layer(Shard(asked, plans), False, True), plans)
    assert set(np.flatnonzero(found.selective[:, 0])) == rows
    for row in rows:
        assert 0 < found.selective[row, 0] <= found.forward[row, 0]


def test_part_of_the_products_is_rebuilt() -> None:
    """Every second product of torchtitan's selective mode; all of every second block in fms-fsdp's."""
    plans = PlanTable.of([Plan()])
    for stack, rows in (("torchtitan", {MATMUL: 0.37}), ("fms-fsdp", {MATMUL: 0.5, ATTENTION: 0.5, ELEMENTWISE: 0.5})):
        asked = job("llama-3-8b", gpus=8, seq=4096, stack=stack)
        found = timed(asked, blocks.layer(Shard(asked, plans), False, True), plans)
        for row, share in rows.items():
            assert found.selective[row, 0] == pytest.approx(share * found.forward[row, 0])


def test_layers_kept_wide_run_in_the_sensitive_format() -> None:
    asked = job("llama-3-8b", cluster="dgx-b200", gpus=8, seq=4096, precision="nvfp4-mixed")
    plans = PlanTable.of([Plan()])

    def products(share: float) -> float:
        wider = asked.precision.model_copy(update={"wide_layers": share})
        shaped = asked.model_copy(update={"precision": wider})
        return float(timed(shaped, blocks.layer(Shard(shaped, plans), False, True), plans).forward[MATMUL, 0])

    assert products(0.0) < products(1.0)
    assert products(0.25) == pytest.approx(0.75 * products(0.0) + 0.25 * products(1.0))


def test_a_slower_recipe_slows_the_narrow_products_only() -> None:
    plans = PlanTable.of([Plan()])
    tensor, row = (job("llama-3-8b", gpus=8, seq=4096, precision=name) for name in ("fp8-tensorwise", "fp8-rowwise"))
    for make, slower in ((lambda a: blocks.layer(Shard(a, plans), False, True), 1 / 0.78), (head_of, 1.0)):
        fast, slow = (timed(asked, make(asked), plans).forward[MATMUL, 0] for asked in (tensor, row))
        assert slow == pytest.approx(slower * fast)


def head_of(asked: Job) -> Block:
    return ends.head(Shard(asked, PlanTable.of([Plan()])))


def test_a_capped_clock_slows_products_and_attention() -> None:
    plans = PlanTable.of([Plan()])
    asked = job("llama-3-8b", gpus=8, seq=4096)
    block, on = blocks.layer(Shard(asked, plans), False, True), uncalibrated(asked)
    full, half = (block_time(block, asked, replace(on, clock=clock), 1).forward[:, 0] for clock in (1.0, 0.5))
    assert half[[MATMUL, ATTENTION]] == pytest.approx(2 * full[[MATMUL, ATTENTION]])
    assert half[ELEMENTWISE] == full[ELEMENTWISE]


def with_experts(asked: Job, **values: Any) -> Job:
    """The job with other facts of how its stack runs experts."""
    known = asked.stack.experts
    assert known is not None
    changed = {name: getattr(known, name).model_copy(update={"value": value}) for name, value in values.items()}
    stack = asked.stack.model_copy(update={"experts": known.model_copy(update=changed)})
    return asked.model_copy(update={"stack": stack})


MOE = job("qwen-3-30b-a3b", gpus=32, stack="megatron-bridge", precision="fp8-mixed")
QWEN = with_stack(MOE, launch=0.0, collective_wait=0.0)
"""Eight of 128 experts a token; a node holds eight ranks."""
SPREAD = PlanTable.of([Plan(ep=8, dp=32, micro_batch=8), Plan(ep=32, dp=32, micro_batch=8)])
"""Expert groups within a node, and over four."""


def of_qwen(asked: Job) -> Any:
    return timed(asked, blocks.layer(Shard(asked, SPREAD), True, True), SPREAD)


def test_tokens_are_sent_once_to_a_rank_or_a_domain() -> None:
    """Expected places of 8 copies: 5.25 of 8 ranks, 3.6 of 4 nodes."""
    asked = with_experts(QWEN, overlap_across=0.0)
    once, every = (
        of_qwen(with_experts(asked, dispatcher=way)).forward[EXPERT] for way in ("once a rank", "every copy")
    )
    places = np.array([8 * (1 - (7 / 8) ** 8), 4 * (1 - (3 / 4) ** 8)])
    assert once / every == pytest.approx(places / 8, rel=0.05)


def test_exchange_hides_apart_inside_and_across_domains() -> None:
    inside, across = (
        of_qwen(with_experts(with_stack(QWEN, expert=shares[0]), overlap_across=shares[1])).backward[EXPERT]
        for shares in ((0.5, 0.0), (0.0, 0.1))
    )
    shown = of_qwen(with_experts(with_stack(QWEN, expert=0.0), overlap_across=0.0)).backward[EXPERT]
    assert inside / shown == pytest.approx([0.5, 1.0])
    assert across / shown == pytest.approx([1.0, 0.9])


def test_the_host_launches_kernels_for_each_expert() -> None:
    slow = with_stack(QWEN, launch=1.0, collective_wait=0.0)
    known = slow.stack.experts
    assert known is not None
    fewer = with_experts(slow, kernels=0)
    for phase, times in (("forward", 1), ("backward", 2)):
        many, few = (getattr(of_qwen(asked), phase).sum(axis=0) for asked in (slow, fewer))
        assert many - few == pytest.approx(times * known.kernels.value)
        assert many[0] - many[1] == pytest.approx(times * known.kernels_each.value * (16 - 4))


def test_fused_experts_narrow_in_their_products() -> None:
    apart, fused = (of_qwen(with_experts(QWEN, fused=value)) for value in (False, True))
    for phase in ("forward", "backward"):
        assert (getattr(fused, phase)[ELEMENTWISE] < getattr(apart, phase)[ELEMENTWISE]).all()
        assert (getattr(fused, phase)[MATMUL] < getattr(apart, phase)[MATMUL]).all(), "weights load meanwhile"


def test_what_hides_and_what_shows_are_all_messages() -> None:
    """Whatever the stack hides, backward gathers beside products included."""
    bare = timed(with_stack(ASKED, tensor=0.0, context=0.0, expert=0.0))
    found = timed(with_stack(ASKED, tensor=0.7, context=0.5, expert=0.6))
    messages = [TENSOR, HEADS, CONTEXT, EXPERT]
    for number, phase in enumerate(("forward", "backward")):
        sent = getattr(bare, phase)[messages] + bare.hidden[number, messages]
        assert getattr(found, phase)[messages] + found.hidden[number, messages] == pytest.approx(sent)
    assert (found.hidden >= 0).all()
    assert (found.hidden[:, [TENSOR, CONTEXT, EXPERT]] > 0).any(axis=2).all()


def test_slack_is_what_the_host_has_left() -> None:
    """What both passes take without launching, less the time of 34, 68 and the eager steps' further launches."""
    asked = job("llama-3-8b", seq=4096, stack="nanotron")
    block = blocks.layer(Shard(asked, PLANS), False, True)
    free, slow = (timed(with_stack(asked, launch=seconds), block) for seconds in (0.0, 1e-3))
    host = sum(launched(block, asked, phase) for phase in PHASES) * 1e-3
    assert (free.slack > 0).all()
    assert (slow.slack < 0).all()
    assert free.slack - slow.slack == pytest.approx(host * np.ones(len(PLANS)))


def test_a_full_queue() -> None:
    """1,000 launches: kernels of a layer's forward pass and, with four tensor ranks, its two gathers and scatters."""
    asked = job("llama-3-8b", seq=4096, stack="nanotron")
    plans = PlanTable.of([Plan(), Plan(tp=4, sp=True)])
    block = blocks.layer(Shard(asked, plans), False, True)
    kernels_launched = float(np.max(launched(block, asked, "forward")))
    assert queued(block, asked) == pytest.approx([1000 / kernels_launched, 1000 / (kernels_launched + 4)])


def test_fewer_tokens_an_expert_take_longer() -> None:
    """The same products for 4 experts of 131,072 tokens and for 16 of 32,768: weights and their gradients move for each
    expert, and those of a 32-bit gradient twice as long."""
    plans = PlanTable.of([Plan(ep=8, dp=32, micro_batch=1), Plan(ep=32, dp=32, micro_batch=1)])
    narrow, wide = (with_stack(QWEN, gradient_bytes=size) for size in (2, 4))
    many, few = timed(narrow, blocks.layer(Shard(narrow, plans), True, True), plans).backward[MATMUL]
    assert many > 1.05 * few
    longer = timed(wide, blocks.layer(Shard(wide, plans), True, True), plans).backward[MATMUL]
    assert longer[0] - many > 2 * (longer[1] - few) > 0


def test_exchange_hides_behind_the_other_pass() -> None:
    """Four tenths of the messages are longer than the forward products and shorter than the backward pass."""
    shown = of_qwen(with_experts(QWEN, overlap_across=0.0))
    part = 0.4 * shown.forward[EXPERT, 1]
    assert shown.forward[MATMUL, 1] < part < shown.backward[[MATMUL, ATTENTION, ELEMENTWISE]].sum(axis=0)[1]
    hidden = shown.forward[EXPERT, 1] - of_qwen(with_experts(QWEN, overlap_across=0.4)).forward[EXPERT, 1]
    assert hidden == pytest.approx(part)


def test_selective_recomputation_gathers_again() -> None:
    """torchtitan keeps what reduce-scatters give, not what gathers do: both gathers of a layer run once more."""
    asked = job("llama-3-8b", seq=4096, stack="torchtitan")
    plans = PlanTable.of([Plan(tp=4, sp=True), Plan()])
    block = blocks.layer(Shard(asked, plans), False, True)
    found = timed(asked, block, plans)
    on = uncalibrated(asked)
    gathers = [op.work for op in block.phase("forward") if isinstance(op.work, Message) and "gather" in op.name]
    group = collectives.group(plans.tp, np.ones(2), on.network.domain)
    seconds = sum(
        collectives.collective_seconds(on.network, "all_gather", np.asarray(m.size), group).seconds * m.times
        for m in gathers
    )
    assert len(gathers) == 2
    assert found.selective[TENSOR] == pytest.approx(seconds)
    assert (found.selective[TENSOR] > 0).tolist() == [True, False]
