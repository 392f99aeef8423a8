"""Names a trainer's own package knows, recorded so that the tests need not install it: python record.py NAME."""

import dataclasses
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "recorded.json"


def torchtitan() -> list[str]:
    """Dotted keys of JobConfig."""
    from torchtitan.config.job_config import JobConfig

    def keys(kind: Any, before: str = "") -> list[str]:
        found = []
        for field in dataclasses.fields(kind):
            inner = field.default_factory if dataclasses.is_dataclass(field.default_factory) else None
            found += keys(inner, f"{before}{field.name}.") if inner else [before + field.name]
        return found

    return keys(JobConfig)


def megatron_core() -> list[str]:
    """Fields of the configurations that arguments are copied to."""
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig
    from megatron.core.transformer import MLATransformerConfig

    kinds = (MLATransformerConfig, OptimizerConfig, DistributedDataParallelConfig)
    return [field.name for kind in kinds for field in dataclasses.fields(kind)]


def deepspeed() -> list[str]:
    """Dotted keys of the state sharding, and the words of the rest."""
    from deepspeed.runtime import constants
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig

    offload = DeepSpeedZeroOffloadOptimizerConfig.model_fields
    words = [value for name, value in vars(constants).items() if name.isupper() and isinstance(value, str)]
    zero = [f"zero_optimization.{name}" for name in DeepSpeedZeroConfig.model_fields]
    both = [f"zero_optimization.offload_{what}.{name}" for what in ("optimizer", "param") for name in offload]
    return [*zero, *both, *(word for word in words if word.isidentifier())]


def accelerate() -> list[str]:
    """Keys of the configuration file and of the mesh."""
    from accelerate import ParallelismConfig
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.utils import FullyShardedDataParallelPlugin

    prefix = "parallelism_config.parallelism_config_"
    mesh = [prefix + field.name for field in dataclasses.fields(ParallelismConfig)]
    fsdp = [f"fsdp_config.fsdp_{field.name}" for field in dataclasses.fields(FullyShardedDataParallelPlugin)]
    return [*(field.name for field in dataclasses.fields(ClusterConfig)), *mesh, *fsdp]


READ = {"torchtitan": torchtitan, "megatron-core": megatron_core, "deepspeed": deepspeed, "accelerate": accelerate}


def main(name: str) -> None:
    """Record the names of one package."""
    held = json.loads(FILE.read_text()) if FILE.exists() else {}
    held[name] = {"version": version(name), "names": sorted(set(READ[name]()))}
    FILE.write_text(json.dumps(dict(sorted(held.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
