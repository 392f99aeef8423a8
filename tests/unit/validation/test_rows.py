"""From a published row to a job and a plan."""

from typing import Any

import pytest

from simtrain.price.collectives import network
from simtrain.spec import load
from simtrain.spec.hardware import Checks
from simtrain.validation.corpus import Corpus, Row, corpus
from simtrain.validation.fabric import (
    Bandwidths,
    State,
    bus_bandwidths,
    in_state,
    state,
    with_adapters_of,
    with_checks,
)
from simtrain.validation.rows import Expressed, Unsupported, express
from simtrain.validation.setup import setup
from simtrain.validation.shapes import shape
from simtrain.workload.parameters import total

DENSE = {"layers": 24, "hidden": 1024, "heads": 16, "kv_heads": 16, "ffn": 4096, "gated_mlp": True, "vocab": 32000}
SPARSE = DENSE | {"moe": {"experts": 8, "top_k": 2, "expert_ffn": 2048, "shared_ffn": None, "moe_every": 1}}
CHECKS = Checks.model_validate(
    {
        "inside": {"value": "200 us", "source": "a test", "evidence": "assumed"},
        "across": {"value": "300 us", "source": "a test", "evidence": "assumed"},
    }
)
STATED: dict[str, Any] = {
    "id": "a",
    "source": "layouts-2023",
    "model": "dense",
    "gpu": "a100-sxm-80gb",
    "gpus": 32,
    "seq": 2048,
    "tp": 4,
    "pp": 2,
    "micro_batch": 2,
    "global_batch": 64,
    "precision": "bf16",
    "recompute": "none",
    "task": "pretrain",
    "status": "ok",
}


def expressed(**changes: Any) -> Expressed | Unsupported:
    row = Row.model_validate(STATED | changes)
    shapes = {"dense": DENSE, "sparse": SPARSE, "odd": DENSE | {"hidden": "large"}, "odder": DENSE | {"moe": "many"}}
    return express(Corpus((row,), shapes))[0]


def supported(**changes: Any) -> Expressed:
    item = expressed(**changes)
    assert isinstance(item, Expressed), item
    return item


def reason(**changes: Any) -> str:
    item = expressed(**changes)
    assert isinstance(item, Unsupported)
    return item.reason


def test_what_is_missing_is_derived_or_said_to_be_assumed() -> None:
    item = supported()
    assert (item.plan.dp, item.plan.zero, item.plan.schedule) == (4, 0, "1f1b")
    assert set(item.assumed) == {"zero 0", "vpp 1", "sequence parallelism off"}


def test_sharding_covers_the_data_parallel_ranks_unless_stated() -> None:
    assert supported(zero=1).plan.shard_group == 4
    assert supported(zero=1, shard_group=2).plan.shard_group == 2
    assert supported(zero=1, tp=4, pp=8, dp=1).plan.zero == 0
    assert supported(zero=0, fsdp=True).plan.zero == 3
    assert supported(zero=2, fsdp=True).plan.zero == 2


def test_context_kinds() -> None:
    ring, heads = supported(cp=2).plan, supported(cp=2, cp_kind="a2a").plan
    assert (ring.cp_ring, ring.cp_head, ring.dp) == (2, 1, 2)
    assert (heads.cp_ring, heads.cp_head) == (1, 2)
    assert supported(ulysses=4).plan.cp_head == 4


def test_an_empty_expert_tensor_degree_is_the_tensor_degree_unless_the_source_differs() -> None:
    sparse = {"model": "sparse", "tp": 2, "pp": 1, "ep": 4}
    assert supported(**sparse).plan.etp == 2
    assert supported(**sparse, etp=1).plan.etp == 1
    assert supported(**sparse, source="simumax").plan.etp == 1
    assert supported(model="sparse", tp=4, pp=2, ep=8).plan.etp == 1, "a mesh with tensor slices would not fit"


def test_unstated_chunks_follow_the_source() -> None:
    assert supported(source="megatron-sc21", schedule="interleaved").plan.vpp == 6
    assert supported(source="zero-bubble-2023", schedule="interleaved").plan.vpp == 12
    assert supported(schedule="interleaved", vpp=3).plan.vpp == 3


def test_an_empty_vpp_means_what_the_source_says() -> None:
    folding = {"source": "moe-folding-2025", "gpu": "h100-sxm-80gb", "schedule": "1f1b"}
    assert supported(**folding).plan.vpp == 12
    assert supported(**folding, vpp=1).plan.vpp == 1
    assert supported(**folding, global_batch=12, micro_batch=1, pp=8, tp=4).plan.vpp == 1, "no whole rounds"
    assert supported(schedule="1f1b").plan.vpp == 1


def test_what_a_source_knows_of_its_recipes() -> None:
    bridge = {"source": "megatron-bridge", "gpu": "h100-sxm-80gb", "software": "Megatron-Bridge, NeMo container 26.04"}
    row = Row.model_validate(STATED | bridge | {"model": "deepseek-v3", "pp": 1, "tp": 1, "ep": 8})
    item = express(Corpus((row,), {"deepseek-v3": SPARSE}))[0]
    assert isinstance(item, Expressed)
    assert (item.job.model.prediction_modules, item.job.optimizer.name) == (1, "adamw-bf16-moments")
    assert supported(**bridge, model="sparse").job.model.prediction_modules == 0
    overlap = [supported(**bridge, pp=pp, tp=2).job.stack.experts for pp in (1, 2)]
    assert [found.overlap_across.value for found in overlap if found] == [0, 0.8]
    blackwell = bridge | {"gpu": "b200-sxm-180gb", "model": "sparse", "tp": 2}
    for release, way in (("26.02.01", "every copy"), ("26.04", "once a rank")):
        found = supported(**blackwell | {"software": f"Megatron-Bridge, NeMo container {release}"}).job.stack.experts
        assert found is not None
        assert found.dispatcher.value == way
    kept = [
        supported(source="mlperf", task="lora", notes=notes).job.stack.kept.expanded
        for notes in ("LoRA: frozen base weights", "")
    ]
    assert kept[0] is not None
    assert (kept[0].value, kept[1]) == (1, None)


@pytest.mark.parametrize(
    ("schedule", "chunks"),
    [("zb-1p", 1), ("zb-2p", 1), ("zb-v", 2), ("dualpipe-v", 2), ("hanayo", 2), ("breadth-first", 12), ("gpipe", 1)],
)
def test_schedules_have_the_chunks_they_need(schedule: str, chunks: int) -> None:
    """A source may call a V's two chunks one."""
    plan = supported(schedule=schedule, vpp=1).plan
    assert (plan.schedule, plan.vpp) == (schedule, chunks)


def test_a_source_may_state_the_vocabulary_its_paper_implies() -> None:
    rows = corpus().of_source("zero-bubble-2023")
    assert {shape["vocab"] for name, shape in rows.models.items() if "zero-bubble" in name} == {50304}
    assert {item.job.model.vocabulary for item in express(rows) if isinstance(item, Expressed)} == {32000}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "distill"}, "task distill"),
        ({"schedule": "v-half"}, "schedule v-half"),
        ({"global_batch": None}, "global batch is not stated"),
        ({"global_batch": 63}, "no multiple"),
        ({"dp": 3}, "not the 32 GPUs"),
        ({"gpu": "tpu-v5e"}, "tpu-v5e"),
        ({"gpus": 12, "tp": 4, "pp": 1, "dp": 3, "global_batch": 6}, "whole nodes"),
        ({"attention_kernel": "magic"}, "magic"),
        ({"offload": "optimizer to host"}, "offload"),
        ({"precision": "int4"}, "int4"),
        ({"model": "dens"}, "dens is not in models.json: did you mean dense?"),
        ({"model": "odd"}, "models.json odd.hidden = 'large'"),
        ({"model": "odder"}, "models.json odder.moe = 'many': is no table"),
    ],
)
def test_what_cannot_be_expressed_says_why(changes: dict[str, Any], words: str) -> None:
    assert words in reason(**changes)


def test_the_attention_kernel_column_overrides_the_stack() -> None:
    assert supported(attention_kernel="torch").job.stack.attention_kernel.value == "eager"
    fused = supported(attention_kernel="flash_attention2 + RMS kernel").job.stack
    assert fused.attention_kernel.value == "flash-2"
    assert fused.fused_norm.value
    assert not supported(attention_kernel="flash_attention2").job.stack.fused_norm.value
    aleph = {"source": "layouts-2023", "gpu": "a100-sxm-80gb"}
    kept = [
        supported(attention_kernel=kernel, **aleph).job.stack.kept
        for kernel in ("flash_attention2", "flash_attention2 + RMS kernel", "flash_attentionv1.0.8", "torch")
    ]
    assert [one.norm.value for one in kept] == [6, 0, 6, 6]
    assert [one.attention.value for one in kept] == [0, 0, 2, 0]
    assert [one.scores.value for one in kept] == [0, 0, 0, 4]
    kept = supported(source="moe-folding-2025", attention_kernel="flash", gpu="h100-sxm-80gb")
    assert kept.job.stack.attention_kernel.value == load.stack("megatron-core").attention_kernel.value


def test_stacks_follow_the_software() -> None:
    zero = supported(source="megatron-sc21", software="Megatron-LM 2021 + DeepSpeed ZeRO-3")
    assert zero.job.stack.name == "deepspeed-2021"
    assert supported(source="megatron-sc21", software="Megatron-LM 2021").job.stack.name == "megatron-lm-2021"
    recipe = {"source": "megatron-bridge", "software": "Megatron-Bridge, NeMo container 26.06.01"}
    assert supported(**recipe, gpu="gb200", gpus_per_node="4").job.stack.name == "megatron-bridge-graphed"
    assert supported(**recipe, gpu="h100-sxm-80gb").job.stack.name == "megatron-bridge"
    unknown = supported(source="new", software="my torchtitan fork")
    assert unknown.job.stack.name == "torchtitan"
    assert "stack torchtitan" in unknown.assumed


def test_notes_name_what_is_rebuilt() -> None:
    """xtuner's Megatron runs with recompute=select rebuild norms and activations, not core attention."""
    common = {"source": "xtuner", "software": "Megatron (Pai-Megatron-Patch 2b201af)", "gpu": "h800-sxm-80gb"}
    notes = "moe-router-force-load-balancing on, dropless recompute=select: moe_act + layernorm only."
    chosen = supported(**common, notes=notes).job.stack
    assert chosen.selective == ("norm", "activation")
    assert supported(**common).job.stack.selective == ("core attention",)


def test_notes_name_options_of_the_run() -> None:
    common = {"source": "torchtitan", "software": "torchtitan 2024-12", "gpu": "h100-sxm-96gb-500w"}
    words = ("torch.compile.", "eager. seq 8192", "Async TP; FSDP 8")
    plain, eager, split = (supported(**common, notes=notes).job.stack for notes in words)
    assert plain.fused_elementwise.value
    assert plain.overlap.tensor.value == 0
    assert not eager.fused_elementwise.value
    assert plain.fused_norm.value
    assert not eager.fused_norm.value
    assert split.overlap.tensor.value > 0
    assert split.fused_elementwise.value


def test_the_detail_of_a_precision_comes_first() -> None:
    common = {"source": "torchtitan", "gpu": "h100-sxm-96gb-500w", "precision": "fp8"}
    by_tensor = supported(**common, precision_detail="float8 tensorwise").job.precision
    assert by_tensor.tensor_gather_bytes is None
    assert supported(**common, precision_detail="float8 rowwise").job.precision.tensor_gather_bytes == 2


def test_lora_runs_train_adapters() -> None:
    assert supported().job.adapter_rank == 0
    assert supported(task="lora").job.adapter_rank == 16


def test_rows_that_differ_in_their_plan_share_a_job() -> None:
    rows = tuple(Row.model_validate(STATED | {"id": str(tp), "tp": tp}) for tp in (2, 4))
    first, second = express(Corpus(rows, {"dense": DENSE}))
    assert isinstance(first, Expressed)
    assert isinstance(second, Expressed)
    assert first.job is second.job


def test_a_worded_network_replaces_the_adapters() -> None:
    cluster = load.cluster("dgx-h100", 64)
    worded = with_adapters_of(cluster, "4 x 100 Gb RoCE a node")
    assert network(worded, 8).adapter == pytest.approx(4 * 100e9 / 8 / 8)
    assert network(with_adapters_of(cluster, "800 Gb/s a node"), 8).adapter == pytest.approx(100e9 / 8)


def test_slow_collectives_are_slow_adapters_or_compared_calls() -> None:
    """By whether all take one time; never above the line rate."""
    cluster = load.cluster("p5", 64)
    free = bus_bandwidths(cluster, 64)
    compared = bus_bandwidths(with_checks(cluster, CHECKS), 64)
    assert compared.stated["all_reduce"] == pytest.approx(2 * compared.stated["all_gather"], rel=0.1)
    slow = Bandwidths(**{kind: value / 4 for kind, value in free.stated.items()})
    assert state(slow, free, None) == State(share=0.25)
    assert state(compared, free, compared) == State(checked=True)
    assert state(free, free, compared) == State()
    faster = Bandwidths(all_reduce=10 * free.stated["all_reduce"])
    assert in_state(cluster, state(faster, free, compared), CHECKS) == cluster
    assert in_state(cluster, State(checked=True), CHECKS).fabric.checks == CHECKS
    found = bus_bandwidths(in_state(cluster, State(share=0.25), None), 64)
    assert found.stated["all_reduce"] == pytest.approx(free.stated["all_reduce"] / 4, rel=0.15)


def test_a_row_measures_its_network() -> None:
    """nanotron-bench: 64 GPUs in a job whose ranks compare calls, and in one whose ranks do not."""
    bench = {"source": "nanotron-bench", "gpu": "h100-sxm-80gb", "gpus": 64, "dp": 16, "tp": 4, "pp": 1}
    nets = ("net_all_reduce_gbps", "net_all_gather_gbps", "net_reduce_scatter_gbps")
    found = [supported(**bench | dict(zip(nets, rates, strict=True))) for rates in ((97, 53, 53), (187, 172, 176))]
    assert [item.job.cluster.fabric.checks is not None for item in found] == [True, False]


def test_shapes_have_the_parameters_their_source_prints() -> None:
    """Printed counts come back: MPT's to a millionth (so biases and positions are right), others to 8 %."""
    found = corpus()
    sequence = {row.model: row.seq for row in found.rows}
    for name, stated in found.models.items():
        if stated.get("params_b") and "zero-bubble" not in name:
            counted = total(shape(name, stated, sequence[name] or 2048)) / 1e9
            digits = {"rel": 1e-6} if name.startswith("mpt") else {"rel": 0.08}
            assert counted == pytest.approx(stated["params_b"], **digits), name


def test_coverage_only_rises() -> None:
    items = express(corpus())
    assert sum(isinstance(item, Expressed) for item in items) / len(items) >= 0.985


def test_settings_name_shipped_stacks_clusters_and_formats() -> None:
    settings = setup()
    for source in (settings.default, *settings.sources.values()):
        for name in (source.stack.value, *(choice.stack for choice in source.stacks)):
            assert load.stack(name).name == name
        for choice in (*source.clusters.values(), *settings.clusters.values()):
            assert load.cluster(choice.value).name == choice.value
        for choice in settings.precisions.values():
            assert load.precision(choice.value).name == choice.value
    for choice in settings.software:
        assert load.stack(choice.stack).name == choice.stack
    for gpu, choice in settings.clusters.items():
        assert load.cluster(choice.value).device.name == gpu


@pytest.mark.parametrize("words", ["0 x 200 Gb/s", "8 x 0 Gb/s", "not stated"])
def test_adapters_that_say_nothing_leave_the_cluster_as_it_is(words: str) -> None:
    assert with_adapters_of(load.cluster("dgx-a100", 32), words) == load.cluster("dgx-a100", 32)


def test_a_row_needs_no_known_source_and_no_status() -> None:
    item = supported(source="mine", status="", software="torchtitan nightly")
    assert item.job.stack.name == "torchtitan"
    assert "stack torchtitan" in item.assumed
