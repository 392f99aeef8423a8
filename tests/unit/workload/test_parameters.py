"""Parameter counts against exact counts of published checkpoints, part by part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.spec.catalog import model, model_names
from simtrain.spec.model import Experts, Model
from simtrain.workload.parameters import Parameters, active, parameters, total

TINY = Model(
    name="tiny", layers=3, hidden=8, heads=4, kv_heads=2, head_dim=5, ffn=11, gated=False, vocabulary=100, norm="layer"
)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt-2-small", 124_439_808),
        ("gpt-2-xl", 1_557_611_200),
        ("llama-2-7b", 6_738_415_616),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3.1-405b", 405_853_388_800),
        ("llama-3.2-1b", 1_235_814_400),
        ("qwen-2.5-7b", 7_615_616_512),
        ("qwen-3-8b", 8_190_735_360),
        ("gemma-2-9b", 9_241_705_984),
        ("olmo-2-7b", 7_298_617_344),
        ("phi-2", 2_779_683_840),
        ("bloom-176b", 176_247_271_424),
        ("mixtral-8x7b", 46_702_792_704),
        ("deepseek-v2-lite", 15_706_484_224),
        ("gpt-oss-20b", 20_914_757_184),
        ("gpt-oss-120b", 116_829_156_672),
    ],
)
def test_total_is_the_checkpoint(name: str, count: int) -> None:
    assert total(model(name)) == count


def test_deepseek_v3_in_parts() -> None:
    assert parameters(model("deepseek-v3")) == Parameters(
        attention=7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168,
        dense_mlp=3 * 7168 * 18432,
        expert=3 * 7168 * 2048,
        shared_expert=3 * 7168 * 2048,
        router=256 * 7168 + 256,
        layer_norms=2 * 7168 + 1536 + 512,
        embedding=129280 * 7168,
        positions=0,
        final_norm=7168,
        head=129280 * 7168,
        prediction=2 * 7168**2 + 3 * 7168,
    )
    assert total(model("deepseek-v3")) == 671_026_419_200
    assert active(model("deepseek-v3")) == 37_552_297_472
    further = model("deepseek-v3").model_copy(update={"prediction_modules": 1})
    assert total(further) - total(model("deepseek-v3")) == pytest.approx(14e9 - 2 * 129280 * 7168, rel=0.05)


def test_direct_query_of_latent_attention() -> None:
    lite = parameters(model("deepseek-v2-lite"))
    assert lite.attention == 2048 * 16 * 192 + 2048 * 576 + 512 * 16 * 256 + 16 * 128 * 2048
    assert lite.layer_norms == 2 * 2048 + 512


def test_gpt_oss_biases_and_sinks() -> None:
    parts = parameters(model("gpt-oss-20b"))
    assert parts.attention == 2 * 2880 * (4096 + 512) + 4096 + 2 * 512 + 2880 + 64
    assert parts.expert == 3 * 2880 * 2880 + 2 * 2880 + 2880
    assert parts.router == 32 * 2881


def test_shared_expert_and_its_gate() -> None:
    assert parameters(model("qwen-2-57b-a14b")).shared_expert == 3 * 3584 * 20480 + 3584


def test_experts_without_a_gate_beside_gated_dense_layers() -> None:
    parts = parameters(model("glam-1.2t"))
    assert (parts.dense_mlp, parts.expert) == (3 * 8192 * 32768, 2 * 8192 * 32768)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"query_key_value_bias": True}, 3 * (20 + 2 * 10)),
        ({"output_bias": True}, 3 * 8),
        ({"mlp_bias": True}, 3 * (11 + 8)),
        ({"mlp_bias": True, "gated": True}, 3 * (8 * 11 + 2 * 11 + 8)),
        ({"head_bias": True}, 100),
        ({"tied_embeddings": True}, -800),
        ({"learned_positions": 7}, 7 * 8),
        ({"embedding_norm": True}, 2 * 8),
        ({"final_norm": False}, -2 * 8),
        ({"norms_per_layer": 4}, 3 * 2 * 2 * 8),
        ({"norm": "rms"}, -8 * 7),
        ({"norm_parameters": False}, -16 * 7),
        ({"qk_norm": "head"}, 3 * 2 * (5 + 5)),
        ({"qk_norm": "full"}, 3 * 2 * (20 + 10)),
        ({"attention_sinks": True}, 3 * 4),
    ],
)
def test_each_field_counts_what_it_says(change: dict[str, object], more: int) -> None:
    changed = Model.model_validate(TINY.model_dump() | change)
    assert total(changed) - total(TINY) == more


def test_head_is_zero_when_tied() -> None:
    assert parameters(model("gpt-2-small")).head == 0


@given(count=st.integers(1, 64), top_k=st.integers(1, 64), every=st.integers(1, 3), first=st.integers(0, 3))
def test_total_and_active_differ_by_the_idle_experts(count: int, top_k: int, every: int, first: int) -> None:
    experts = Experts(count=count, top_k=min(top_k, count), ffn=6, first_dense_layers=first, every=every)
    mixture = TINY.model_copy(update={"experts": experts})
    idle = (experts.count - experts.top_k) * parameters(mixture).expert
    assert total(mixture) - active(mixture) == mixture.moe_layers * idle


@pytest.mark.parametrize("name", model_names())
def test_dense_models_are_all_active(name: str) -> None:
    known = model(name)
    assert (active(known) == total(known)) == (known.experts is None)
