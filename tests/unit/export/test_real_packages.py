"""Exported configurations read by the trainers' own packages, wherever they are installed (CONTRIBUTING says how)."""

import dataclasses
import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest
import torch
from jobs import job
from record import FILE, READ

from simtrain.export.files import files
from simtrain.export.megatron_lm import settings
from simtrain.spec.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore")
ASKED = job("llama-3-8b", gpus=16, stack="torchtitan")
PLANS = {
    "sharded": Plan(dp=16, zero=3, shard_group=16, micro_batch=2, global_batch=64, recompute="full"),
    "split": Plan(tp=2, sp=True, pp=2, dp=4, zero=3, shard_group=4, micro_batch=1, global_batch=64),
}


def package(name: str, module: str) -> ModuleType:
    return pytest.importorskip(module, reason=f"{name} is not installed")


def first(trainer: str, plan: Plan) -> str:
    return next(iter(files(trainer, ASKED, plan).values()))


@pytest.mark.parametrize("name", READ)
def test_the_record_is_the_packages(name: str) -> None:
    """Of the version that was recorded."""
    held = json.loads(FILE.read_text())[name]
    try:
        installed = version(name)
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if installed != held["version"]:
        pytest.skip(f"{name} {held['version']} was recorded")
    assert sorted(set(READ[name]())) == held["names"]


@pytest.mark.parametrize("plan", PLANS)
def test_megatron_core_takes_the_arguments(plan: str) -> None:
    package("megatron-core", "megatron.core")
    from megatron.core.transformer import TransformerConfig

    asked = job("llama-3-8b", gpus=16)
    values = settings(asked, PLANS[plan]).values
    known = {field.name: field.type for field in dataclasses.fields(TransformerConfig)}
    named = {name[2:].replace("-", "_"): value for name, value in values.items()}
    config = TransformerConfig(
        **{name: value for name, value in named.items() if name in known}, pipeline_dtype=torch.bfloat16
    )
    assert config.tensor_model_parallel_size == PLANS[plan].tp
    assert config.sequence_parallel == PLANS[plan].sp
    assert config.recompute_granularity == ("full" if plan == "sharded" else None)


@pytest.mark.parametrize("plan", PLANS)
def test_torchtitan_takes_the_file(plan: str, tmp_path: Path) -> None:
    package("torchtitan 0.2", "torchtitan.config.job_config")
    from torchtitan.config import ConfigManager

    path = tmp_path / "torchtitan.toml"
    path.write_text(first("torchtitan", PLANS[plan]))
    config = ConfigManager().parse_args(["--job.config_file", str(path)])
    assert config.parallelism.tensor_parallel_degree == PLANS[plan].tp
    assert config.parallelism.data_parallel_shard_degree == PLANS[plan].dp
    assert config.activation_checkpoint.mode == PLANS[plan].recompute


def test_deepspeed_takes_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    package("deepspeed", "deepspeed")
    from deepspeed.runtime import config as real

    monkeypatch.setattr(real.dist, "get_world_size", lambda *_: 16)
    monkeypatch.setattr(real.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(real.dist, "get_rank", lambda *_: 0)
    config = real.DeepSpeedConfig(json.loads(first("deepspeed", PLANS["sharded"])))
    assert config.zero_config.stage == 3
    assert config.train_micro_batch_size_per_gpu == 2
    assert config.gradient_accumulation_steps == 2


@pytest.mark.parametrize("plan", PLANS)
def test_accelerate_takes_the_file(plan: str, tmp_path: Path) -> None:
    package("accelerate", "accelerate")
    from accelerate import ParallelismConfig
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.utils import FullyShardedDataParallelPlugin

    path = tmp_path / "accelerate.json"
    path.write_text(first("accelerate", PLANS[plan]))
    config = ClusterConfig.from_json_file(str(path))
    assert config.num_processes == 16
    prefix = "parallelism_config_"
    sizes = {name.removeprefix(prefix): size for name, size in config.parallelism_config.items()}
    mesh = ParallelismConfig(**sizes)
    assert mesh.total_size * PLANS[plan].pp == 16
    known = {field.name for field in dataclasses.fields(FullyShardedDataParallelPlugin)} | {"auto_wrap_policy"}
    told = {name.removeprefix("fsdp_") for name in config.fsdp_config}
    assert told - {"version"} - {"offload_params"} <= known
