"""Memory plans against the fixed choices they generalise, and over caps."""

import itertools

import pytest

from simtrain.estimate import machine
from simtrain.estimate.replayed import exact, replayed
from simtrain.search.memory import AGREE, Layout
from simtrain.search.search import search
from simtrain.spec.memory_plan import MADE_AGAIN, MemoryPlan, StageMemory, Treatment
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.request import Request
from simtrain.spec.tensors import TENSORS
from simtrain.workload.strategies.pipeline import stage_layers

JOB = Request(model="llama-3-70b", cluster="dgx-h100", gpus="64", seq="8192", global_batch="64").job()
ON = machine(JOB)
LAYOUT = Plan(tp=8, sp=True, pp=4, dp=2, zero=1, shard_group=2, global_batch=64)
LAYERS = 20
GIB = 2**30


def everywhere(**tensors: Treatment) -> MemoryPlan:
    return MemoryPlan(stages=(StageMemory(first=0, last=3, tensors=tensors),))


def both(fixed: dict, memory: MemoryPlan):
    plans = (LAYOUT.model_copy(update=fixed), LAYOUT.model_copy(update={"memory": memory}))
    return [exact(JOB, PlanTable.of([plan]), ON, memory=[plan.memory]) for plan in plans]


@pytest.mark.parametrize("fixed", [{}, {"recompute": "selective"}])
def test_none_and_selective_are_memory_plans(fixed: dict) -> None:
    again = {"attention": Treatment(recompute=LAYERS)} if fixed else {}
    (column, column_made), (plan, plan_made) = both(fixed, everywhere(**again))
    assert plan.step_time == pytest.approx(column.step_time, rel=1e-12)
    assert plan.memory.total == pytest.approx(column.memory.total, rel=1e-12)
    assert plan_made.terms == pytest.approx(column_made.terms, rel=1e-9)
    assert plan_made.hardware_flops == pytest.approx(column_made.hardware_flops, rel=1e-9)


@pytest.mark.parametrize("layers", [7, LAYERS])
def test_everything_made_again_takes_no_more_than_full_recomputation(layers: int) -> None:
    """The last product of a layer, whose result the next layer keeps, need not run again."""
    fixed = {"recompute": "full"} if layers == LAYERS else {"full_layers": layers}
    again = {name: Treatment(recompute=layers) for name in MADE_AGAIN}
    (column, _), (plan, _) = both(fixed, everywhere(**again))
    assert plan.memory.total == pytest.approx(column.memory.total, rel=1e-9)
    assert 0.9 * column.step_time < plan.step_time < column.step_time


def test_what_leaves_the_device_is_on_the_host_while_it_is_in_flight() -> None:
    (kept, _), (moved, _) = both({}, everywhere(expanded=Treatment(offload=LAYERS)))
    assert moved.step_time == pytest.approx(kept.step_time, rel=0.01)
    left = float(kept.memory.classes[3, 0] - moved.memory.classes[3, 0])
    assert float(moved.memory.host[0]) == pytest.approx(left, rel=1e-9)


def test_tensors_in_fewer_bits_take_their_share_and_some_time() -> None:
    (kept, _), (narrow, _) = both({}, everywhere(expanded=Treatment(quantise=LAYERS)))
    (_, _), (gone, _) = both({}, everywhere(expanded=Treatment(recompute=LAYERS)))
    of, to, without = (float(one.memory.classes[3, 0]) for one in (kept, narrow, gone))
    assert (to - without) / (of - without) == pytest.approx((1 + 4 / 128) / 2)
    assert float(narrow.step_time[0]) > float(kept.step_time[0])


@pytest.mark.parametrize("allowed", [("recompute",), ("recompute", "cpu"), ("recompute", "nvme", "quantise")])
def test_caps_are_kept_and_more_memory_is_never_slower(allowed) -> None:
    layout = Layout(JOB, LAYOUT, ON)
    stays = float(layout.base.footprint.resident.max())
    caps = [stays + share * (layout.peak - stays) for share in (0.4, 0.6, 0.8, 1.0)]
    found = [layout.planned(cap, allowed) for cap in caps]
    assert all(one is not None for one in found)
    for cap, one in zip(caps, found, strict=True):
        again = replayed(JOB, one.plan, ON)
        assert float(again.footprint.total.max()) == pytest.approx(one.peak)
        assert one.peak <= cap
        assert one.step_time == pytest.approx(again.step.seconds)
        assert abs(one.expected / one.step_time - 1) <= AGREE
    times = [one.step_time for one in found]
    assert all(more <= less * (1 + 1e-3) for less, more in itertools.pairwise(times))
    assert found[-1].plan.memory.stages == ()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_what_is_passed_over_would_not_have_won(share: float) -> None:
    """All actions at once against each tier, with chunks and without."""
    layout = Layout(JOB, LAYOUT, ON)
    stays = float(layout.base.footprint.resident.max())
    cap = stays + share * (layout.peak - stays)
    found = layout.planned(cap, ("recompute", "cpu", "nvme", "quantise", "chunk"))
    fewer = [
        layout.planned(cap, ("recompute", tier, "quantise", *more))
        for tier in ("cpu", "nvme")
        for more in ((), ("chunk",))
    ]
    assert found is not None
    assert found.step_time <= min(one.step_time for one in fewer if one is not None) * (1 + 1e-6)


def test_no_plan_below_what_stays() -> None:
    layout = Layout(JOB, LAYOUT, ON)
    assert layout.planned(float(layout.base.footprint.resident.max()), ("recompute", "cpu", "quantise")) is None


def test_chunks_of_the_loss_make_room_for_longer_sequences() -> None:
    """Llama 3 8B on one device: the logits of 64k positions alone exceed what is left (StreamBP, arXiv 2506.03077)."""
    job = Request(model="llama-3-8b", cluster="dgx-h100", gpus="8", seq="64k", global_batch="8").job()
    layout = Layout(job, Plan(dp=8, zero=3, shard_group=8, global_batch=8), machine(job))
    cap = 60 * GIB
    assert layout.planned(cap, ("recompute",)) is None
    chunked = layout.planned(cap, ("recompute", "chunk"))
    assert chunked is not None
    assert chunked.plan.memory.loss_chunks > 1


@pytest.mark.parametrize(
    ("model", "stack", "plan"),
    [
        ("llama-3-8b", "zero-bubble", {"tp": 2, "pp": 4, "schedule": "zb-1p", "zero": 0, "shard_group": 1}),
        ("llama-3-8b", "megatron-core", {"tp": 2, "pp": 2, "vpp": 4, "dp": 2, "zero": 1, "shard_group": 2}),
        ("llama-3-8b", "megatron-core", {"tp": 2, "pp": 2, "dp": 2, "schedule": "gpipe", "zero": 0, "shard_group": 1}),
        ("mixtral-8x7b", "megatron-core", {"tp": 2, "pp": 2, "dp": 2, "ep": 2, "zero": 1, "shard_group": 2}),
        ("llama-3-8b", "deepspeed-2021", {"tp": 1, "pp": 1, "dp": 8, "zero": 3, "shard_group": 8}),
    ],
)
def test_all_made_again_is_full_recomputation_in_every_kind_of_layout(model: str, stack: str, plan: dict) -> None:
    """The same memory, and a little less time: split backward passes, chunks, experts, sharded weights."""
    asked = Request(model=model, cluster="dgx-h100", gpus="8", seq="4096", global_batch="16", stack=stack).job()
    layout = Plan(**plan, global_batch=16)
    layers = asked.model.layers // layout.pp
    again = {name: Treatment(recompute=layers) for name in MADE_AGAIN}
    memory = MemoryPlan(stages=(StageMemory(first=0, last=layout.pp - 1, tensors=again),))
    table = PlanTable.of([layout.model_copy(update={"recompute": "full"}), layout])
    both, _ = exact(asked, table, machine(asked), memory=[None, memory])
    full, plan_ = both.memory.total.tolist()
    assert plan_ == pytest.approx(full, rel=1e-6)
    assert 0.85 * both.step_time[0] < both.step_time[1] < both.step_time[0]


def test_chunks_leave_the_gradient_of_the_heads_weights() -> None:
    asked = Request(model="llama-3-8b", cluster="dgx-h100", gpus="8", stack="megatron-core-plain").job()
    of = Layout(asked, Plan(tp=2, dp=4, zero=1, shard_group=4, global_batch=1024), machine(asked)).choices(MemoryPlan())
    weights = asked.model.vocabulary / 2 * asked.model.hidden * asked.stack.head_gradient.value
    assert weights > 0
    assert of.at_loss(1) > of.at_loss(8) > of.at_loss(10**6) >= weights


def test_nothing_gets_wider_in_fewer_bits() -> None:
    """What fp8 products read is a byte an element already."""
    asked = Request(model="llama-3-8b", cluster="dgx-h100", gpus="8", precision="fp8-tensorwise").job()
    ratio = Layout(asked, Plan(dp=8, global_batch=1024), machine(asked)).choices(MemoryPlan()).ratio
    assert ratio[TENSORS.index("activated")] == 1.0
    assert ratio[TENSORS.index("projected")] == pytest.approx((1 + 4 / 128) / 2)


@pytest.mark.parametrize(
    ("schedule", "stack"), [("zb-1p", "zero-bubble"), ("zb-v", "zero-bubble"), ("1f1b", "megatron-core")]
)
def test_everything_is_kept_where_it_fits(schedule: str, stack: str) -> None:
    asked = Request(model="llama-3-8b", cluster="dgx-h100", gpus="8", global_batch="16", stack=stack).job()
    plan = Plan(tp=2, pp=4, vpp=2 if schedule == "zb-v" else 1, schedule=schedule, global_batch=16)
    layout = Layout(asked, plan, machine(asked))
    found = layout.planned(layout.peak, ())
    assert found is not None
    assert found.plan.memory.stages == ()
    assert found.step_time == layout.base.step.seconds
    less = layout.planned(0.9 * layout.peak, ("recompute",))
    assert less is not None
    assert less.step_time > found.step_time


def test_uneven_stages_are_planned_and_read_back() -> None:
    """nanotron counts embedding and head among the layers it divides."""
    asked = Request(model="llama-3-8b", cluster="dgx-h100", gpus="8", global_batch="16", stack="nanotron").job()
    layout = Layout(asked, Plan(pp=8, zero=0, global_batch=16), machine(asked))
    found = layout.planned(0.8 * layout.peak, ("recompute",))
    assert found is not None
    assert found.plan.memory.problems("memory", stage_layers(asked, PlanTable.of([found.plan]))) == []


@pytest.mark.parametrize("gpus", ["32", "64"])
def test_the_search_finds_layouts_that_only_memory_plans_make_possible(gpus: str) -> None:
    """Llama 3 70B at 16k on few devices: sharded weights, and activations that go and come."""
    asked = Request(model="llama-3-70b", cluster="dgx-h100", gpus=gpus, seq="16k", global_batch="64").job()
    plain, treated = search(asked, 3), search(asked, 3, allowed=("recompute", "cpu"))
    assert treated.best.plan(0).memory is not None
    assert float(treated.best.step_time[0]) < 0.95 * float(plain.best.step_time[0])
    assert treated.best.fits.all()
