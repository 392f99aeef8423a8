"""Blocks: saved bytes, FLOP and messages of a layer against the formulas of the papers."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job

from simtrain.spec import load
from simtrain.spec.base import Fact
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload import blocks, ends, passes
from simtrain.workload.op import Attention, Block, Elementwise, GroupedMatmul, Matmul, Message, Phase
from simtrain.workload.shard import Shard


def layer(asked: Job, moe: bool = False, fused: bool = True, **degrees: Any) -> Block:
    return blocks.layer(Shard(asked, PlanTable.of([Plan(**degrees)])), moe, fused)


def shaped(asked: Job, **fields: Any) -> Job:
    """The job with another model shape."""
    return asked.model_copy(update={"model": asked.model.model_copy(update=fields)})


def gpt(heads: int, head_dim: int, sequence: int) -> Job:
    """A GPT layer with the software of Korthikanti et al.: dropout, unfused attention, 16 bits."""
    asked = job("gpt-3-175b", "selene", 64, seq=2048, stack="megatron-lm-2022", precision="fp16-mixed")
    asked = asked.model_copy(update={"sequence": sequence})
    hidden = heads * head_dim
    shape = {"heads": heads, "kv_heads": heads, "head_dim": head_dim, "hidden": hidden, "ffn": 4 * hidden}
    return shaped(asked, **shape)


def value(count: Any) -> float:
    return float(np.asarray(count, float).sum())


def messages(block: Block, axis: str) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(size, times) of every message sent over an axis, by phase and collective."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for op in block.ops:
        if isinstance(op.work, Message) and op.work.axis == axis and value(op.work.times):
            found.setdefault((op.phase, op.work.collective), []).append((value(op.work.size), value(op.work.times)))
    return found


def volume(block: Block, axis: str) -> dict[tuple[str, str], float]:
    """Bytes by phase and collective, repeated messages counted each time."""
    return {key: sum(size * times for size, times in sent) for key, sent in messages(block, axis).items()}


def flops(block: Block, phase: str, *kinds: type) -> float:
    return sum(value(op.work.flops * op.weight) for op in block.ops if op.phase == phase and isinstance(op.work, kinds))


HEADS = st.sampled_from([8, 16, 64])
DEGREES = st.sampled_from([1, 2, 4, 8])
BATCHES = st.integers(1, 8)
SEQUENCES = st.sampled_from([512, 2048, 8192])


@given(HEADS, DEGREES, BATCHES, SEQUENCES)
def test_saved_bytes_under_tensor_parallelism(a: int, t: int, b: int, s: int) -> None:
    """sbh(10 + 24/t + 5as/(ht)): arXiv 2205.05198 equation 2."""
    asked = gpt(a, 128, s)
    h = a * 128
    block = layer(asked, fused=False, tp=t, micro_batch=b)
    assert value(block.saved.kept) == pytest.approx(s * b * h * (10 + 24 / t + 5 * a * s / (h * t)))


@given(HEADS, st.sampled_from([2, 4, 8]), BATCHES, SEQUENCES)
def test_saved_bytes_under_sequence_parallelism(a: int, t: int, b: int, s: int) -> None:
    """sbh/t (34 + 5as/h), 34 sbh/t once the attention core is rebuilt, 2sbh/t the input alone: equations 4 and 6."""
    asked = gpt(a, 128, s)
    h = a * 128
    block = layer(asked, fused=False, tp=t, sp=True, micro_batch=b)
    assert value(block.saved.kept) == pytest.approx(s * b * h / t * (34 + 5 * a * s / h))
    assert value(block.saved.kept - block.saved.dropped) == pytest.approx(34 * s * b * h / t)
    assert value(block.input_size) == pytest.approx(2 * s * b * h / t)


def test_full_recomputation_keeps_the_input() -> None:
    """2sbh: arXiv 2205.05198 section 5."""
    asked = gpt(16, 128, 2048)
    assert value(layer(asked, fused=False, tp=4, micro_batch=3).input_size) == 2 * 2048 * 3 * 16 * 128


def test_without_dropout_no_mask_is_saved() -> None:
    """One byte an element of the two residual masks and 3 of 5 bytes a score go."""
    asked = gpt(16, 128, 1024)
    stack = asked.stack
    dry = stack.model_copy(update={"dropout": stack.dropout.model_copy(update={"value": False})})
    kept = layer(asked, fused=False).saved.kept - layer(asked.model_copy(update={"stack": dry}), fused=False).saved.kept
    assert value(kept) == 2 * 1024 * 2048 + 3 * 16 * 1024**2


@given(HEADS, DEGREES, BATCHES, SEQUENCES)
def test_forward_flops_of_a_layer(a: int, t: int, b: int, s: int) -> None:
    """24 B s h^2 + 4 B s^2 h over the tensor ranks: arXiv 2104.04473 appendix; backward twice as many."""
    asked, h = gpt(a, 128, s), a * 128
    block = layer(asked, fused=False, tp=t, micro_batch=b)
    forward = flops(block, "forward", Matmul)
    assert forward * t == pytest.approx(24 * b * s * h**2 + 4 * b * s**2 * h)
    assert flops(block, "backward", Matmul) == pytest.approx(2 * forward)


def test_fused_attention_is_causal_and_rebuilds_its_scores() -> None:
    """Half the square forward, 5 products against 2 backward: arXiv 2205.14135 and 2307.08691 section 4.1."""
    asked = gpt(16, 128, 4096)
    block = layer(asked, micro_batch=2)
    forward = flops(block, "forward", Attention)
    assert forward == pytest.approx(4 * 2 * 4096**2 * 2048 / 2)
    assert flops(block, "backward", Attention) == pytest.approx(2.5 * forward)


@given(st.sampled_from([2, 4, 8]), BATCHES)
def test_tensor_messages(t: int, b: int) -> None:
    """Two all-reduces of 2sbh either way; split, as many bytes and two gathers more backward (2205.05198 s. 4.2.2)."""
    asked = gpt(16, 128, 2048)
    whole = 2 * 2048 * b * 2048
    plain = messages(layer(asked, tp=t, micro_batch=b), "tensor")
    assert plain == {(phase, "all_reduce"): [(whole, 1.0)] * 2 for phase in ("forward", "backward")}
    split = volume(layer(asked, tp=t, sp=True, micro_batch=b), "tensor")
    assert split == {
        ("forward", "all_gather"): 2 * whole,
        ("forward", "reduce_scatter"): 2 * whole,
        ("backward", "all_gather"): 4 * whole,
        ("backward", "reduce_scatter"): 2 * whole,
    }
    assert not messages(layer(asked, micro_batch=b), "tensor")
    sent = [op for op in layer(asked, tp=t, sp=True).ops if isinstance(op.work, Message)]
    assert [op.name for op in sent if op.work.hidden] == [  # type: ignore[union-attr]
        "attention input gathered again",
        "feed-forward input gathered again",
    ]


def test_narrow_operands_are_narrowed_before_they_are_gathered() -> None:
    asked = job("llama-3-8b", seq=1024)
    narrow = asked.model_copy(update={"precision": load.precision("fp8-mixed")})
    wide, narrowed = (volume(layer(found, tp=4, sp=True), "tensor") for found in (asked, narrow))
    for phase in ("forward", "backward"):
        assert narrowed[phase, "all_gather"] == wide[phase, "all_gather"] / 2
        assert narrowed[phase, "reduce_scatter"] == wide[phase, "reduce_scatter"]


def test_modules_that_predict_further_repeat_the_head() -> None:
    plain = job("deepseek-v3", gpus=64)
    further = plain.model_copy(update={"model": plain.model.model_copy(update={"prediction_modules": 2})})
    plans = PlanTable.of([Plan()])
    once, thrice = (ends.head(Shard(asked, plans)) for asked in (plain, further))
    assert [op.weight for op in thrice.ops if op.name == "logits"] == [3.0]
    assert thrice.saved.tensors["loss"] == pytest.approx(3 * np.asarray(once.saved.tensors["loss"]))
    joined = next(op.work for op in thrice.ops if op.name == "further projection")
    assert isinstance(joined, Matmul)
    assert joined.flops == pytest.approx(2 * 4096 * 7168 * 2 * 7168)


def test_gated_feed_forward_saves_both_halves() -> None:
    """Gate, up and their product: 3 x 2 bytes a unit of width against GPT's 2 x 2 (arXiv 2002.05202)."""
    asked = gpt(16, 128, 1024)
    ungated, gated = (layer(shaped(asked, gated=g)) for g in (False, True))
    assert value(gated.saved.kept - ungated.saved.kept) == 2 * 1024 * asked.model.ffn
    up = 2 * 1024 * asked.model.hidden * asked.model.ffn
    assert flops(gated, "forward", Matmul) - flops(ungated, "forward", Matmul) == up


@pytest.mark.parametrize("kv_heads", [1, 4, 32])
def test_grouped_queries_narrow_keys_and_values(kv_heads: int) -> None:
    """Keys and values shrink in projection FLOP and saved bytes; attention FLOP stay (arXiv 2305.13245)."""
    asked = job("llama-3-8b", seq=2048)
    full, narrow = (layer(shaped(asked, kv_heads=k)) for k in (32, kv_heads))
    gone = 2 * (32 - kv_heads) * 128
    assert value(full.saved.kept - narrow.saved.kept) == gone * 2048 * 2
    assert flops(full, "forward", Matmul) - flops(narrow, "forward", Matmul) == 2 * 2048 * gone * 4096
    assert flops(full, "forward", Attention) == flops(narrow, "forward", Attention)


def test_key_value_heads_replicate_beyond_their_number() -> None:
    asked = job("llama-3-8b", seq=2048)
    projection = next(op.work for op in layer(shaped(asked, kv_heads=2), tp=8).ops if op.name == "query key value")
    assert value(projection.n) == (32 / 8 + 2 * 1) * 128


@pytest.mark.parametrize(("sp", "model"), [(False, "deepseek-v3"), (True, "deepseek-v3"), (True, "deepseek-v2-lite")])
def test_latent_attention_projections(sp: bool, model: str) -> None:
    """DeepSeek-V2 (arXiv 2405.04434 section 2.1): down over a rank's positions, up over its heads.

    Without a query rank the query comes straight from the hidden state, split by heads like any other.
    """
    asked = job(model, gpus=64, seq=4096)
    shape, latent = asked.model, asked.model.latent
    assert latent is not None
    tp, tokens, heads = 4, 4096, shape.heads / 4
    found = flops(layer(asked, tp=tp, sp=sp), "forward", Matmul)
    query = heads * (latent.nope_head_dim + latent.rope_head_dim)
    positions = tokens / tp if sp else tokens
    ranks = latent.query_rank + latent.key_value_rank + latent.rope_head_dim
    expected = positions * shape.hidden * ranks
    expected += tokens * query * (latent.query_rank or shape.hidden)
    expected += tokens * latent.key_value_rank * heads * (latent.nope_head_dim + latent.value_head_dim)
    expected += tokens * heads * latent.value_head_dim * shape.hidden + 3 * tokens * shape.hidden * shape.ffn / tp
    assert found == pytest.approx(2 * expected)


def test_latent_attention_core_has_two_head_sizes() -> None:
    """Scores over 192, values over 128 dimensions."""
    asked = job("deepseek-v3", gpus=64, seq=4096)
    assert flops(layer(asked), "forward", Attention) == pytest.approx(2 * 128 * (192 + 128) * 4096**2 / 2)


def test_windowed_layers_see_the_window() -> None:
    """Gemma 2 (arXiv 2408.00118): every other layer sees 4096 positions back, w - w^2/(2s) keys on average."""
    asked = job("gemma-2-9b", seq=8192)
    shape = asked.model
    assert shape.windowed_layers * 2 == shape.layers
    found = {op.name: value(op.work.flops) * op.weight for op in layer(asked).ops if isinstance(op.work, Attention)}
    whole = 4 * 8192 * shape.heads * shape.head_dim
    assert found["attention"] == pytest.approx(whole * 4096 / 2)
    assert found["windowed attention"] == pytest.approx(whole * (4096 - 4096**2 / (2 * 8192)) / 2)


def test_norms_around_a_half_save_their_inputs() -> None:
    """Gemma 2 norms before and after each half; a parallel layer (Falcon) has one norm in all."""
    asked = job("llama-3-8b", seq=1024)
    one, two, four = (value(layer(shaped(asked, norms_per_layer=n)).saved.kept) for n in (1, 2, 4))
    state = 2 * 1024 * 4096
    assert four - two == 2 * state
    assert two - one == 2 * state


@pytest.mark.parametrize("stack", ["megatron-core", "torchtitan"])
def test_query_key_norms_save_their_inputs(stack: str) -> None:
    asked = job("qwen-3-8b", seq=1024, stack=stack)
    shape = asked.model
    assert shape.qk_norm == "head"
    normed, plain = (layer(a).saved for a in (asked, shaped(asked, qk_norm="none")))
    size = 2 * 1024 * (shape.heads + shape.kv_heads) * shape.head_dim
    assert value(normed.kept - plain.kept) == size
    assert value(normed.dropped) - value(plain.dropped) == pytest.approx(
        size if "norm" in asked.stack.selective else 0, abs=1
    )


def experts_of(asked: Job, **degrees: Any) -> list[GroupedMatmul]:
    block = layer(asked, moe=True, **degrees)
    return [op.work for op in block.phase("forward") if isinstance(op.work, GroupedMatmul)]


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), BATCHES)
def test_expert_work_is_spread_over_the_folded_mesh(tp: int, ep: int, etp: int, b: int) -> None:
    """Balanced routing: every rank does its share of tokens x top_k (arXiv 2504.14960 section 3)."""
    asked = job("mixtral-8x7b", gpus=64, seq=2048)
    etp = min(etp, tp)
    up, down = experts_of(asked, tp=tp, sp=tp > 1, ep=ep, etp=etp, micro_batch=b)
    copies = b * 2048 / tp * 2
    assert value(up.rows) * value(up.experts) == pytest.approx(copies * etp)
    assert value(up.rows) == pytest.approx(b * 2048 / tp * ep * etp * 2 / 8)
    expected = 2 * copies * 3 * 4096 * 14336
    assert value(up.flops) + value(down.flops) == pytest.approx(expected)


@given(st.sampled_from([1, 4]), st.sampled_from([2, 4, 8]), st.sampled_from([1, 2]))
def test_expert_messages(tp: int, ep: int, cp: int) -> None:
    """Dispatch and combine either way: tokens/tp x top_k x hidden x bytes over ep ranks (arXiv 2006.16668)."""
    asked = job("mixtral-8x7b", gpus=64, seq=2048)
    block = layer(asked, moe=True, tp=tp, sp=tp > 1, ep=ep, cp_ring=cp)
    sent = 2048 / cp / tp * 2 * 4096 * 2
    assert messages(block, "expert") == {(phase, "all_to_all"): [(sent, 1.0)] * 2 for phase in ("forward", "backward")}


def test_a_plain_exchange_orders_copies_twice() -> None:
    plans = PlanTable.of([Plan(ep=ep, dp=128) for ep in (1, 8, 128)])
    for stack, orders in (("megatron-core-plain", [1, 2, 1]), ("megatron-bridge", [1, 1, 1])):
        asked = job("qwen-3-30b-a3b", gpus=128, stack=stack)
        layer = blocks.layer(Shard(asked, plans), True, True)
        one = 2 * 8 * 4096 * 2048 * 2 / 0.75
        for name in ("permute", "unpermute backward"):
            work = next(op.work for op in layer.ops if op.name == name)
            assert isinstance(work, Elementwise)
            assert np.asarray(work.size) == pytest.approx(one * np.array(orders))


def test_expert_tensor_ranks_gather_what_both_got() -> None:
    """A slice of an expert needs the tokens of all etp ranks, and their outputs are summed back."""
    asked = job("mixtral-8x7b", gpus=64, seq=2048)
    block = layer(asked, moe=True, tp=4, sp=True, ep=4, etp=2)
    sent = 2048 / 4 * 2 * 4096 * 2
    found = volume(block, "expert")
    for phase in ("forward", "backward"):
        assert found[phase, "all_gather"] == found[phase, "reduce_scatter"] == 2 * sent
    strides = {op.work.collective: value(op.work.stride) for op in block.ops if isinstance(op.work, Message)}
    assert (strides["all_to_all"], strides["all_gather"]) == (2, 1)


def test_routed_slices_are_restored_without_sequence_parallelism() -> None:
    """Attention's two all-reduces, and the whole hidden state gathered after the experts, either way."""
    asked = job("mixtral-8x7b", gpus=64, seq=2048)
    whole = 2048 * 4096 * 2
    plain = volume(layer(asked, moe=True, tp=4), "tensor")
    assert plain == {(phase, name): whole for phase in ("forward", "backward") for name in ("all_reduce", "all_gather")}
    split = volume(layer(asked, moe=True, tp=4, sp=True), "tensor")
    assert split[("forward", "all_gather")] == whole


def test_shared_expert_runs_over_the_tensor_axis() -> None:
    asked = job("deepseek-v3", gpus=64, seq=4096)
    up = next(op.work for op in layer(asked, moe=True, tp=4, sp=True).ops if op.name == "shared expert up")
    assert (value(up.m), value(up.n), value(up.k)) == (4096, 2 * 2048 / 4, 7168)
    assert volume(layer(asked, moe=True, tp=4, sp=True), "tensor")["forward", "all_gather"] == 2 * 4096 * 7168 * 2


@given(st.sampled_from([2, 4, 8]))
def test_ulysses_messages_shrink_with_the_degree(degree: int) -> None:
    """Queries, keys, values and outputs: 4 s h / P of message a rank (arXiv 2309.14509 section 3.2), in two."""
    asked = gpt(16, 128, 4096)
    block = layer(asked, cp_head=degree)
    sent = 4 * 4096 * 2048 * 2 / degree
    assert messages(block, "heads") == {
        ("forward", "all_to_all"): [(sent / 2, 2.0)],
        ("backward", "all_to_all"): [(sent / 2, 2.0)],
    }


@given(st.sampled_from([2, 4, 8]), st.sampled_from([1, 2]))
def test_ring_passes_keys_and_values(ring: int, head: int) -> None:
    """degree - 1 passes of a rank's keys and values; their gradients travel too on the way back (arXiv 2310.01889)."""
    asked = job("llama-3-8b", seq=8192)
    block = layer(asked, cp_ring=ring, cp_head=head)
    block_size = 2 * 8192 / (ring * head) * 8 * 128 * 2
    assert volume(block, "context")["forward", "point_to_point"] == pytest.approx((ring - 1) * block_size)
    assert volume(block, "context")["backward", "point_to_point"] == pytest.approx(2 * (ring - 1) * block_size)


@given(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_context_ranks_share_flops_and_saved_bytes(ring: int, head: int) -> None:
    asked = job("llama-3-8b", seq=8192)
    alone, split = layer(asked), layer(asked, cp_ring=ring, cp_head=head)
    for phase in ("forward", "backward"):
        assert flops(split, phase, Matmul, Attention) * ring * head == pytest.approx(
            flops(alone, phase, Matmul, Attention)
        )
    assert value(split.saved.kept) * ring * head == pytest.approx(value(alone.saved.kept))


def head(asked: Job, **degrees: Any) -> Block:
    return ends.head(Shard(asked, PlanTable.of([Plan(**degrees)])))


def test_head_holds_the_logits_of_its_vocabulary_slice() -> None:
    """Norm and projection input 2sbh each, logits 4 bytes x copies over t: arXiv 2205.05198 section 4.3."""
    asked = gpt(16, 128, 2048)
    copies, vocabulary = asked.stack.loss_copies.value, 4 * 128 * -(-asked.model.vocabulary // (4 * 128))
    assert vocabulary > asked.model.vocabulary
    kept = value(head(asked, tp=4, micro_batch=2).saved.kept)
    assert kept == pytest.approx(2 * 2048 * (4 * 2048 + 4 * copies * vocabulary / 4))
    assert flops(head(asked, tp=4), "forward", Matmul) == pytest.approx(2 * 2048 * 2048 * vocabulary / 4)


@pytest.mark.parametrize(
    ("padding", "alone", "split"), [("always", 50304, 25216), ("when split", 50257, 25216), ("never", 50257, 25129)]
)
def test_vocabulary_is_padded_as_the_stack_does(padding: str, alone: int, split: int) -> None:
    """Megatron-LM pads GPT-2's 50257 to 128 x tensor degree; what stays odd does not fit tensor cores."""
    asked = gpt(16, 128, 2048)
    fact = asked.stack.vocabulary_padding.model_copy(update={"value": padding})
    asked = asked.model_copy(update={"stack": asked.stack.model_copy(update={"vocabulary_padding": fact})})
    asked = shaped(asked, vocabulary=50257)
    for degree, columns in ((1, alone), (2, split)):
        logits = next(op.work for op in head(asked, tp=degree).ops if op.name == "logits")
        assert isinstance(logits, Matmul)
        assert value(logits.n) == columns
        assert bool(np.all(logits.aligned)) == (columns % 8 == 0)


def test_eager_softmax_where_the_fused_kernel_does_not_take_the_shape() -> None:
    """Two heads of one sequence are no multiple of four."""
    asked = gpt(16, 128, 2048)

    def moved(**degrees: Any) -> float:
        softmax = next(op.work for op in layer(asked, fused=False, **degrees).ops if op.name == "softmax")
        assert isinstance(softmax, Elementwise)
        return value(softmax.size)

    fused, eager = (passes.softmax(2.0, kernel, dropout=True) for kernel in (True, False))
    scores = 2 * 2048 * 2048
    assert moved(tp=8, micro_batch=2) == pytest.approx(2 * scores * fused.forward)
    assert moved(tp=8, micro_batch=1) == pytest.approx(scores * eager.forward)


def test_head_messages() -> None:
    """Three all-reduces of a scalar a token for the loss (arXiv 1909.08053 section 3) and the hidden state."""
    asked = gpt(16, 128, 2048)
    whole = 2.0 * 2048 * 2048
    plain = messages(head(asked, tp=4), "tensor")
    assert plain == {("forward", "all_reduce"): [(4.0 * 2048, 3.0)], ("backward", "all_reduce"): [(whole, 1.0)]}
    split = messages(head(asked, tp=4, sp=True), "tensor")
    assert split == {
        ("forward", "all_reduce"): [(4.0 * 2048, 3.0)],
        ("forward", "all_gather"): [(whole, 1.0)],
        ("backward", "all_gather"): [(whole, 1.0)],
        ("backward", "reduce_scatter"): [(whole, 1.0)],
    }


def test_operands_are_narrowed_once() -> None:
    """Four inputs and four output gradients a layer; hidden states split over the sequence before they are gathered."""
    asked = job("llama-3-8b", seq=1024)
    narrow = asked.model_copy(update={"precision": load.precision("mxfp8-mixed")})
    bytes_an_element = narrow.precision.quantise_bytes

    def moved(phase: Phase, **degrees: Any) -> float:
        ops = layer(narrow, **degrees).phase(phase)
        return value(sum(value(op.work.size) for op in ops if op.name.split(" backward")[0].endswith("narrowed")))  # type: ignore[union-attr]

    entering, leaving = 3 * 4096 + 14336, (4096 + 2 * 1024) + 2 * 4096 + 2 * 14336
    assert moved("forward") == pytest.approx(bytes_an_element * 1024 * entering)
    assert moved("backward") == pytest.approx(bytes_an_element * 1024 * leaving)
    assert moved("forward", tp=4, sp=True) == pytest.approx(moved("forward") / 4)
    assert not [op for op in layer(asked).ops if "narrowed" in op.name]


def test_fp8_saves_narrow_matmul_inputs() -> None:
    asked = job("llama-3-8b", seq=1024)
    narrow = asked.model_copy(update={"precision": load.precision("fp8-mixed")})
    inputs = 1024 * (2 * 4096 + 14336)
    saved = value(layer(asked).saved.kept) - value(layer(narrow).saved.kept)
    assert saved == inputs * (2 - narrow.precision.matmul_input_bytes) > 0


def test_selective_rebuilds_latent_projections() -> None:
    """Queries, keys and values raised from their latents: 128 heads x (192 + 128 + 128) of DeepSeek-V3, two bytes."""
    asked = job("deepseek-v3", "gb200-nvl72", 72, seq=1024, global_batch=72, stack="megatron-bridge")
    rebuilt = layer(asked)
    raised = 2 * 1024 * 128 * (192 + 128 + 128)
    assert value(rebuilt.saved.dropped) == pytest.approx(raised)
    assert {op.name for op in rebuilt.phase("forward") if op.role == "latent up"} == {"key value up", "query up"}
    assert value(layer(job("llama-3-8b", stack="megatron-bridge")).saved.dropped) == 0


def stated(asked: Job, **facts: bool) -> Job:
    """The job on a stack that does so."""
    update = {name: Fact(value=fact) for name, fact in facts.items()}
    return asked.model_copy(update={"stack": asked.stack.model_copy(update=update)})


@pytest.mark.parametrize(("apart", "sums"), [(False, 1), (True, 2)])
def test_input_gradients_of_gate_and_up_are_reduced_apart(apart: bool, sums: int) -> None:
    """Same products in all; without sequence parallelism a reduction for each, with it one of their sum."""
    found = [layer(stated(job(), gate_apart=apart), tp=4, sp=sp) for sp in (False, True)]
    reduced = [{op.name: op.work for op in block.ops}["feed-forward reduce backward"] for block in found]
    assert [value(message.times) for message in reduced if isinstance(message, Message)] == [sums, 0]
    for phase in ("forward", "backward"):
        assert flops(found[0], phase, Matmul) == flops(layer(job(), tp=4), phase, Matmul)


def test_gathered_logits_are_whole_on_every_rank() -> None:
    """Each of four ranks multiplies its quarter, gathers 16 bits an entry and reads and keeps all of them."""
    part, whole = (head(stated(job(), logits_gathered=gathered), tp=4) for gathered in (False, True))
    ops = [{op.name: op.work for op in block.ops} for block in (part, whole)]
    sizes = [work.size for named in ops if isinstance(work := named["loss"], Elementwise)]
    assert value(sizes[1]) == 4 * value(sizes[0])
    messages = [named["logits gather"] for named in ops]
    assert [value(message.times) for message in messages if isinstance(message, Message)] == [0, 1]
    assert value(part.saved.kept) < value(whole.saved.kept)
    assert flops(part, "forward", Matmul) == flops(whole, "forward", Matmul)


def test_a_view_keeps_keys_and_values_twice() -> None:
    """nanotron: with as many heads of keys as of queries, both stay beside their copies, 2 bytes each; grouped, not."""
    asked = job("llama-2-7b", seq=4096, stack="nanotron")
    nothing = asked.stack.kept.packed.model_copy(update={"value": 0.0})
    plain = asked.model_copy(
        update={
            "stack": asked.stack.model_copy(update={"kept": asked.stack.kept.model_copy(update={"packed": nothing})})
        }
    )
    for heads, bytes_each in ((32, 2), (8, 0)):
        packed, bare = (value(layer(shaped(one, kv_heads=heads), tp=2).saved.kept) for one in (asked, plain))
        assert packed - bare == 2 * 4096 * asked.model.hidden / 2 * bytes_each


def test_repeated_keys_travel_around_the_ring() -> None:
    """torchtitan: 32 heads of keys instead of 8, 2 bytes each there, and 2 + 4 back with gradients in fp32."""
    degrees = {"cp_ring": 4, "dp": 2}
    plain = volume(layer(job("llama-3-8b", seq=8192), **degrees), "context")
    repeated = volume(layer(job("llama-3-8b", seq=8192, stack="torchtitan"), **degrees), "context")
    element = 2048 * 8 * 2 * 128 * 3
    kind = "point_to_point"
    assert plain == {("forward", kind): 2 * element, ("backward", kind): 4 * element}
    assert repeated == {("forward", kind): 4 * 2 * element, ("backward", kind): 4 * 6 * element}


def test_rows_are_narrowed_after_they_are_gathered() -> None:
    """With a scale a row tensor ranks gather in bf16, so each narrows all positions of what enters a layer's halves
    and, backward, of the gradients of what leaves them; with a scale a tensor its own eighth."""

    def moved(precision: str, phase: Phase) -> float:
        block = layer(job("llama-3-8b", seq=8192, stack="torchtitan", precision=precision), tp=8, sp=True)
        works = [op.work for op in block.phase(phase) if " narrowed" in op.name]
        return sum(value(work.size) for work in works if isinstance(work, Elementwise))

    for phase in ("forward", "backward"):
        more = moved("fp8-rowwise", phase) - moved("fp8-tensorwise", phase)
        assert more == 2 * 7 / 8 * 6 * 8192 * 4096
