"""Every forward operation of every model's layers makes a tensor that is kept, or the layer's own result."""

import pytest

from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.request import Request
from simtrain.workload.made import made
from simtrain.workload.op import Block
from simtrain.workload.program import program


def layers(model: str, cluster: str, fused: bool, adapter_rank: str | None = None, precision: str | None = None):
    job = Request(
        model=model, cluster=cluster, gpus="64", global_batch="64", adapter_rank=adapter_rank, precision=precision
    ).job()
    described = program(job, PlanTable.of([Plan(tp=8, dp=8, sp=True)]), fused_attention=fused)
    return [part for part in (described.layers.dense, described.layers.moe) if part is not None]


def recomputable(block: Block) -> set[str]:
    return {tensor for op in block.phase("forward") if (tensor := made(op)) is not None}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("llama-3-8b", {}),
        ("llama-3-8b", {"adapter_rank": "16"}),
        ("llama-3-8b", {"precision": "fp8-mixed"}),
        ("deepseek-v3", {}),
        ("mixtral-8x7b", {"precision": "fp8-mixed"}),
        ("qwen3-8b", {}),
        ("gemma-2-9b", {}),
        ("gpt-3-175b", {"fused": False}),
    ],
)
def test_what_is_kept_can_be_made_again_from_the_input(model: str, options: dict) -> None:
    for block in layers(model, "dgx-h100", options.pop("fused", True), **options):
        kept = {
            name for name, size in block.saved.tensors.items() if (size if isinstance(size, float) else size.max()) > 0
        }
        assert kept - {"input"} <= recomputable(block)
