"""Peak memory by class: what shards, what stays in flight, what recomputation saves."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job

from simtrain.spec.base import Fact
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.memory import CLASSES, Launches, Memory, memory
from simtrain.workload.parameters import parameters, total
from simtrain.workload.program import program


def peak(asked: Job, *plans: Plan) -> Memory:
    return memory(program(asked, PlanTable.of(plans), fused_attention=True))


def of(asked: Job, **fields: Any) -> dict[str, float]:
    """Bytes by class of one plan."""
    return dict(zip(CLASSES, peak(asked, Plan(**fields)).classes[:, 0].tolist(), strict=True))


DENSE = job("llama-3-8b", gpus=64, global_batch=64)


def test_classes_make_up_the_total() -> None:
    found = peak(DENSE, Plan(tp=2, pp=4, dp=8, global_batch=64), Plan(dp=64, zero=3, shard_group=64, global_batch=64))
    assert found.classes.shape == (len(CLASSES), 2)
    assert (found.classes >= 0).all()
    assert found.total == pytest.approx(found.classes.sum(axis=0))


def test_the_rest_is_taken_from_the_stack() -> None:
    """Fragmentation is a share of what comes and goes, not of the states; the reserve is flat."""
    found = of(DENSE, tp=2, sp=True, dp=32, global_batch=64)
    stack = DENSE.stack
    dynamic = sum(found[name] for name in ("activations", "logits", "working set", "buffers"))
    assert found["fragmentation"] == pytest.approx(stack.fragmentation.value * dynamic)
    assert found["reserve"] == stack.reserve.value


@pytest.mark.parametrize(
    ("zero", "held"), [(0, (2, 2, 12)), (1, (2, 2, 12 / 64)), (2, (2, 2 / 64, 12 / 64)), (3, (2 / 64, 2 / 64, 12 / 64))]
)
def test_states_of_a_whole_plan(zero: int, held: tuple[float, float, float]) -> None:
    """2 + 2 + 12 bytes a parameter, each over N_d ranks from its stage on: ZeRO (arXiv 1910.02054) figure 1, N_d 64."""
    asked = job("llama-3-8b", gpus=64, global_batch=64, stack="deepspeed")
    found = of(asked, dp=64, zero=zero, shard_group=64 if zero else 1, global_batch=64)
    counts = [found[name] / total(asked.model) for name in ("weights", "gradients", "optimizer")]
    assert counts == pytest.approx(held)


def test_hybrid_sharding_spreads_over_its_group() -> None:
    whole, part = (of(DENSE, dp=64, zero=3, shard_group=group, global_batch=64) for group in (64, 8))
    for name in ("weights", "gradients", "optimizer"):
        assert part[name] == pytest.approx(8 * whole[name])


def test_gathered_layers_of_sharded_parameters() -> None:
    """Stage 3 keeps two layers' 16-bit weights whole, one layer's gradients, and as much of the larger end."""
    plain, sharded = (of(DENSE, dp=64, zero=z, shard_group=g, global_batch=64) for z, g in ((0, 1), (3, 64)))
    counts = parameters(DENSE.model)
    head = counts.head + counts.final_norm
    layer = (total(DENSE.model) - counts.embedding - head) / DENSE.model.layers
    assert sharded["working set"] - plain["working set"] == pytest.approx(layer * (2 * 2 + 2) + head * (2 + 2))


def test_tensor_ranks_share_weights_but_norms() -> None:
    counts = parameters(DENSE.model)
    norms = DENSE.model.layers * counts.layer_norms + counts.final_norm
    one, four = (of(DENSE, tp=t, dp=64 // t, global_batch=64)["weights"] / 2 for t in (1, 4))
    assert one == total(DENSE.model)
    assert four == pytest.approx((one - norms) / 4 + norms)


@given(st.sampled_from([2, 4, 8]), st.sampled_from([8, 16, 32]))
def test_schedules_differ_in_flight(pp: int, m: int) -> None:
    """First stage: m under GPipe, p under 1F1B, p + (p - 1)/v interleaved (arXiv 2104.04473 section 2.2)."""
    dp = 64 // pp
    batch = {"pp": pp, "dp": dp, "global_batch": dp * m}
    one = of(DENSE, **batch | {"global_batch": dp})["activations"]
    assert of(DENSE, schedule="gpipe", **batch)["activations"] == pytest.approx(m * one)
    assert of(DENSE, schedule="1f1b", **batch)["activations"] == pytest.approx(min(pp, m) * one)
    interleaved = of(DENSE, schedule="interleaved", vpp=2, **batch)["activations"]
    assert interleaved == pytest.approx(min(pp + (pp - 1) / 2, m) * one)


def test_gpipe_keeps_the_logits_of_every_microbatch() -> None:
    """All forward passes come before the first backward pass; 1F1B holds one loss at a time."""
    many = {"pp": 2, "dp": 32, "global_batch": 64 * 8, "recompute": "full"}
    asked = job("gemma-2-9b", gpus=64)
    gpipe, flushed = (of(asked, schedule=s, **many) for s in ("gpipe", "1f1b"))
    assert flushed["logits"] > 0
    assert gpipe["logits"] == pytest.approx(16 * flushed["logits"])


def test_logits_are_on_the_last_stage_only() -> None:
    """With activations rebuilt, the last of two stages is the fullest and holds the logits; else the first is."""
    asked = job("llama-3-8b", gpus=8, seq=8192)
    last = peak(asked, Plan(pp=2, dp=4, recompute="full", global_batch=64))
    first = peak(asked, Plan(pp=2, dp=4, micro_batch=2, global_batch=64))
    assert (last.stage[0], first.stage[0]) == (3, 0)
    assert last.classes[CLASSES.index("logits"), 0] > 0
    assert first.classes[CLASSES.index("logits"), 0] == 0


def test_tied_embeddings_are_on_both_ends() -> None:
    """A pipeline holds a tied embedding twice: in the first stage, and in the last one as the head."""
    asked = job("gemma-2-9b", gpus=64)
    counts = parameters(asked.model)
    assert asked.model.tied_embeddings
    stages = program(asked, PlanTable.of([Plan(dp=64), Plan(pp=2, dp=32)]), True).stages
    alone, ends = (stages.states.dense.parameters[:, row] for row in stages.spread.index)
    assert alone[0] == total(asked.model)
    assert ends[0] - 21 * (counts.attention + counts.layer_norms + counts.dense_mlp) == counts.embedding
    assert ends[0] + ends[3] == total(asked.model) + counts.embedding
    assert ends[3] - ends[0] == counts.final_norm


REDUCED = job("llama-3-8b", gpus=64, global_batch=64, stack="nanotron")


@pytest.mark.parametrize(
    ("ahead", "fields", "layers"),
    [
        (True, {"pp": 4, "dp": 4}, 24),
        (False, {"pp": 4, "dp": 4}, 2 * 9),
        (False, {"pp": 2, "dp": 8}, 0),
        (True, {"dp": 16}, 24),
        (False, {"dp": 16}, 0),
        (True, {"pp": 4, "dp": 4, "global_batch": 8}, 2 * 9),
        (True, {"tp": 1, "sp": False, "dp": 64}, 0),
    ],
    ids=["ahead", "four stages", "two stages", "one stage", "behind", "two microbatches", "no tensor ranks"],
)
def test_reduced_tensors_wait_for_the_device(ahead: bool, fields: dict[str, Any], layers: float) -> None:
    """Two whole 16-bit hidden states a layer: of as many layers as the host's queue holds where it is ahead, else of
    the passes it launches in a row but the first and the last; nothing where no tensor ranks reduce. By cost the
    first of four stages has 9 of 32 layers."""
    plan = Plan(**({"tp": 4, "sp": True, "global_batch": 64} | fields))
    described = program(REDUCED, PlanTable.of([plan]), fused_attention=True)
    counted = memory(described, Launches(np.array([ahead]), np.array([24.0]))).by_stage - memory(described).by_stage
    whole = 4096 * REDUCED.model.hidden * 2
    assert counted[CLASSES.index("buffers"), 0, 0] == pytest.approx(2 * whole * layers)


@pytest.mark.parametrize(("pp", "taken_back"), [(4, True), (1, False)])
def test_a_full_device_takes_them_back(pp: int, taken_back: bool) -> None:
    """With room for half of what waits a pipeline fits exactly; a stage with the head wants all of it."""
    table = PlanTable.of([Plan(tp=4, sp=True, pp=pp, dp=16 // pp, micro_batch=2, global_batch=64)])
    described = program(REDUCED, table, fused_attention=True)
    ahead = Launches(np.array([True]), np.array([24.0]))
    least, most = (float(memory(described, launches).total[0]) for launches in (None, ahead))
    assert most < REDUCED.cluster.device.memory.value
    capacity = (least + most) / 2
    device = REDUCED.cluster.device.model_copy(update={"memory": Fact(value=capacity)})
    small = REDUCED.model_copy(update={"cluster": REDUCED.cluster.model_copy(update={"device": device})})
    found = float(memory(program(small, table, fused_attention=True), ahead).total[0])
    assert found == pytest.approx(capacity if taken_back else most)
    assert (found <= capacity) == taken_back


RECOMPUTED = job("llama-3-8b", gpus=64, global_batch=64, stack="torchtitan")


@pytest.mark.parametrize("asked", [DENSE, RECOMPUTED], ids=["core attention", "norm and activation"])
@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 8, 32]), st.integers(1, 4))
def test_the_more_is_rebuilt_the_less_is_held(asked: Job, tp: int, pp: int, micro_batch: int) -> None:
    dp = max(64 // (tp * pp), 1)
    plan = {"tp": tp, "pp": pp, "dp": dp, "micro_batch": micro_batch, "global_batch": dp * micro_batch * 16}
    full, selective, none = (of(asked, recompute=r, **plan) for r in ("full", "selective", "none"))
    assert full["activations"] < selective["activations"] < none["activations"]
    totals = [sum(found.values()) for found in (full, selective, none)]
    assert totals[0] <= totals[1] * (1 + 1e-12)
    assert totals[1] <= totals[2] * (1 + 1e-12)


@given(st.sampled_from(["none", "selective"]), st.sampled_from([1, 2, 4]))
def test_each_layer_rebuilt_takes_less(mode: str, pp: int) -> None:
    held = [
        sum(of(DENSE, pp=pp, dp=64 // pp, recompute=mode, full_layers=k, global_batch=1024).values())
        for k in range(32 // pp)
    ]
    assert (np.diff(held) <= 1e-6).all()
    assert held[-1] < held[0]


def test_one_layer_is_rebuilt_at_a_time() -> None:
    """Full recomputation holds every layer's input and, while it runs, the rest of what one layer saves."""
    none, full = (of(DENSE, dp=64, recompute=r, global_batch=64) for r in ("none", "full"))
    layer = none["activations"] / 32
    inputs = 4096 * 4096 * 2
    assert full["activations"] == pytest.approx(32 * inputs)
    assert full["working set"] == pytest.approx(layer - inputs)


@given(st.sampled_from([2, 4, 8]))
def test_buffers_of_messages(tp: int) -> None:
    """In and out of a tensor message, of a pipeline message, and a bucket of gradients."""
    hidden, bucket = 4096 * 4096 * 2, DENSE.stack.bucket.value
    assert of(DENSE, dp=64, global_batch=64)["buffers"] == bucket
    assert of(DENSE, dp=64, zero=3, shard_group=64, global_batch=64)["buffers"] == 0
    assert of(DENSE, tp=tp, dp=64 // tp, global_batch=64)["buffers"] == bucket + 2 * hidden
    assert of(DENSE, pp=2, dp=32, global_batch=64)["buffers"] == bucket + 2 * hidden


def test_experts_are_shared_by_their_ranks() -> None:
    asked = job("mixtral-8x7b", gpus=64)
    one, spread = (of(asked, ep=ep, dp=64, global_batch=64)["weights"] for ep in (1, 8))
    experts = 32 * 8 * parameters(asked.model).expert * 2
    assert one - spread == pytest.approx(experts * 7 / 8)


def test_the_fullest_stage_is_reported() -> None:
    """Layers that do not divide: a stage with one more layer holds more, unless it is nearer the end."""
    asked = job("deepseek-v3", gpus=64)
    plans = [Plan(pp=8, dp=8, ep=8, global_batch=512), Plan(pp=8, dp=8, ep=8, recompute="full", global_batch=512)]
    found = peak(asked, *plans)
    for row, plan in enumerate(plans):
        assert found.total[row] == pytest.approx(peak(asked, plan).total[0])
        assert found.stage[row] == peak(asked, plan).stage[0]


def changed(asked: Job, **facts: Any) -> Job:
    """The job on a stack with other facts."""
    stack = asked.stack.model_copy(update={name: Fact(value=value) for name, value in facts.items()})
    return asked.model_copy(update={"stack": stack})


def keeping(asked: Job, **sizes: float) -> Job:
    kept = asked.stack.kept.model_copy(update={name: Fact(value=size) for name, size in sizes.items()})
    return asked.model_copy(update={"stack": asked.stack.model_copy(update={"kept": kept})})


SPLIT = {"tp": 2, "sp": True, "dp": 32, "global_batch": 64}
POSITIONS = 2 * 4096


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("norm", 2 * POSITIONS / 2 * 4096),
        ("gate", POSITIONS * 14336 / 2),
        ("attention", POSITIONS * (32 + 2 * 8) * 128 / 2),
        ("gathered", POSITIONS * 4096 / 2),
        ("scores", 0),
    ],
)
def test_eager_kernels_keep_more(name: str, elements: float) -> None:
    """Bytes an element of a Llama 3 8B layer with two sequences on two tensor ranks that split the sequence."""
    more = of(keeping(DENSE, **{name: 3.0}), micro_batch=2, **SPLIT)["activations"]
    assert more - of(DENSE, micro_batch=2, **SPLIT)["activations"] == pytest.approx(32 * 3 * elements)


def test_scores_are_kept_where_attention_is_not_fused() -> None:
    plans = PlanTable.of([Plan(**SPLIT)])
    less, more = (
        memory(program(asked, plans, fused_attention=False)).classes[CLASSES.index("activations"), 0]
        for asked in (DENSE, keeping(DENSE, scores=4.0))
    )
    assert more - less == pytest.approx(32 * 4 * 16 * 4096**2)


def test_selective_recomputation_drops_what_eager_kernels_keep() -> None:
    plan = {"dp": 64, "global_batch": 64, "recompute": "selective"}
    eager = keeping(RECOMPUTED, norm=6.0, gate=2.0)
    assert of(eager, **plan)["activations"] == pytest.approx(of(RECOMPUTED, **plan)["activations"])
    assert of(eager, **plan)["working set"] > of(RECOMPUTED, **plan)["working set"]


@pytest.mark.parametrize(("plan", "copies"), [({"dp": 64}, 1), ({"tp": 8, "pp": 8, "dp": 1}, 0)])
def test_gradients_are_copied_for_their_reduction(plan: dict[str, int], copies: int) -> None:
    """Where there are ranks to reduce over."""
    less, more = (of(changed(DENSE, reduction_copy=size), global_batch=64, **plan) for size in (0.0, 2.0))
    assert more["gradients"] - less["gradients"] == pytest.approx(copies * less["weights"])


def test_stages_stay_whole_in_pipelines() -> None:
    """Gathered 16-bit weights and fp32 gradients of a whole stage, its optimizer states sharded as ever."""
    asked = changed(RECOMPUTED, whole_in_pipeline=True)
    plan = {"pp": 2, "dp": 32, "zero": 3, "shard_group": 32, "global_batch": 64, "recompute": "full"}
    resharded, whole = (of(changed(RECOMPUTED, whole_in_pipeline=flag), **plan) for flag in (False, True))
    weights = of(DENSE, pp=2, dp=32, global_batch=64, recompute="full")["weights"] / 2
    assert whole["gradients"] == pytest.approx(4 * weights)
    assert whole["working set"] - resharded["working set"] > weights
    assert whole["optimizer"] == resharded["optimizer"]
    one = {"dp": 64, "zero": 3, "shard_group": 64, "global_batch": 64}
    assert of(asked, **one) == of(changed(RECOMPUTED, whole_in_pipeline=False), **one)


def test_every_stage_is_there_to_look_at() -> None:
    found = peak(DENSE, Plan(pp=4, dp=16, global_batch=64))
    assert found.by_stage[:, found.stage[0], 0].tolist() == found.classes[:, 0].tolist()
    assert found.by_stage.sum(axis=0).max() == pytest.approx(found.total[0])


def test_the_gradient_of_a_large_head_comes_after_the_loss() -> None:
    """Few positions: the head's weights outweigh the logits; many: the logits stay the peak."""
    asked = changed(DENSE, head_gradient=4.0)
    shared = {"dp": 64, "zero": 1, "shard_group": 64, "global_batch": 64 * 16}
    few, more = (of(a, **shared)["logits"] for a in (DENSE, asked))
    weights = parameters(asked.model).head
    logits = 4096 * asked.model.vocabulary
    saved = few - logits * 4 * asked.stack.loss_copies.value
    assert more - saved == pytest.approx(4 * weights + 2 * logits)
    assert of(asked, micro_batch=16, **shared)["logits"] == of(DENSE, micro_batch=16, **shared)["logits"]
