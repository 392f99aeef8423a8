"""Every setting written or read is one that the trainer's own package knows (recorded.json, written by record.py)."""

import json
from pathlib import Path

import pytest
from jobs import job

from simtrain.export import deepspeed, torchtitan
from simtrain.export.files import settings
from simtrain.export.megatron_lm import flags
from simtrain.search.space import Space
from simtrain.spec.catalog import model
from simtrain.spec.job import Job
from simtrain.spec.load import precision

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())
NAMES = {trainer: set(entry["names"]) for trainer, entry in RECORDED.items()}
OF_SCRIPT = {
    "--seq-length", "--max-position-embeddings", "--position-embedding-type", "--vocab-size", "--num-experts",
    "--num-layers-per-virtual-pipeline-stage", "--num-virtual-stages-per-pipeline-rank", "--micro-batch-size",
    "--global-batch-size", "--fp8-format", "--fp4-format", "--train-samples", "--swiglu", "--group-query-attention",
    "--disable-bias-linear", "--untie-embeddings-and-output-weights", "--checkpoint-activations",
    "--recompute-activations",
}  # fmt: skip
"""Flags that pretrain_gpt.py's own parser adds to the fields of megatron-core."""
OF_FSDP = {"fsdp_config.fsdp_version", "fsdp_config.fsdp_offload_params"}
"""Words of accelerate's configuration file that its plugin has under other names."""


def written(trainer: str, asked: Job) -> set[str]:
    """Every setting of some hundreds of legal plans."""
    names: set[str] = set()
    for plans, _ in Space(asked).blocks():
        for row in range(0, len(plans), 199):
            names |= settings(trainer, asked, plans.plan(row)).values.keys()
    return names


def test_megatron_flags() -> None:
    heard = [*flags()["values"], *flags()["switches"]]
    unknown = {name for name in heard if name[2:].replace("-", "_") not in NAMES["megatron-core"]}
    assert unknown == OF_SCRIPT


def test_megatron_writes_what_it_reads() -> None:
    for name in ("llama-3-8b", "mixtral-8x7b", "deepseek-v2-lite"):
        used = written("megatron-lm", job(name))
        heard = {*flags()["values"], *flags()["switches"], *flags()["without_effect"]}
        assert used <= heard


@pytest.mark.parametrize("formats", ["bf16-mixed", "fp8-rowwise", "fp8-tensorwise", "mxfp8-mixed"])
def test_torchtitan_keys(formats: str) -> None:
    asked = job("llama-3-8b", stack="torchtitan").model_copy(update={"precision": precision(formats)})
    assert written("torchtitan", asked) <= NAMES["torchtitan"]
    assert set(torchtitan.HEARD) <= NAMES["torchtitan"]


def test_torchtitan_models_are_of_the_catalog() -> None:
    assert all(model(name).name == name for name in torchtitan.table()["models"])


def test_deepspeed_keys() -> None:
    used = written("deepspeed", job("llama-3-8b", stack="deepspeed")) | set(deepspeed.HEARD)
    parts = {name if name.startswith("zero_optimization.") else name.split(".")[0] for name in used}
    assert parts - NAMES["deepspeed"] == OTHER_WORDS


OTHER_WORDS = {"tensor_parallel", "pipeline", "sequence_parallel_size"}
"""Words that deepspeed/runtime/config.py and tensor_parallel/config.py read without a constant of their own."""


def test_accelerate_keys() -> None:
    used = written("accelerate", job("llama-3-8b", stack="torchtitan"))
    assert {name for name in used if name.split(".")[0] not in ("fsdp_config", "parallelism_config")} <= NAMES[
        "accelerate"
    ]
    assert {name for name in used if "." in name} - NAMES["accelerate"] <= OF_FSDP
