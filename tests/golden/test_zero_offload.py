"""ZeRO-Offload (arXiv 2101.06840): what one V100 of 32 GB trains, as its abstract and DeepSpeed's documents say."""

import pytest
from jobs import job

from simtrain.estimate import Estimate, machine
from simtrain.estimate.replayed import exact
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.flops import model_flops
from simtrain.workload.parameters import total

HIDDEN, SEQUENCE, BATCH = 4096, 1024, 512


def gpt(layers: int, cluster: str = "dgx-2") -> Job:
    """GPT-2 of so many layers of 4,096 (10 billion: 50, DeepSpeed's tutorial) on one device, effective batch 512."""
    precision = "fp16-mixed" if cluster == "dgx-2" else "bf16-mixed"
    found = job("gpt-3-175b", cluster, 1, seq=SEQUENCE, global_batch=BATCH, stack="deepspeed-2021", precision=precision)
    shape = {"layers": layers, "hidden": HIDDEN, "heads": 32, "kv_heads": 32, "head_dim": 128, "ffn": 4 * HIDDEN}
    return found.model_copy(update={"model": found.model.model_copy(update=shape)})


def trained(asked: Job, micro_batch: int, offload: str = "optimizer") -> Estimate:
    plan = Plan(micro_batch=micro_batch, global_batch=BATCH, recompute="full", offload=offload)
    return exact(asked, PlanTable.of([plan]), machine(asked))[0]


def largest(cluster: str) -> float:
    """Billion parameters of the deepest model that fits with one sequence a microbatch."""
    layers = max(n for n in range(20, 120) if trained(gpt(n, cluster), 1).fits[0])
    return total(gpt(layers, cluster).model) / 1e9


def test_thirteen_billion_on_one_v100() -> None:
    assert 12 <= largest("dgx-2") <= 15


def test_without_offload_one_tenth() -> None:
    """10 times what PyTorch holds: 1.4 billion with 16 bytes a parameter."""
    assert not trained(gpt(9), 1, "none").fits[0]
    assert trained(gpt(4), 1, "none").fits[0]


def test_ten_billion_at_forty_teraflops() -> None:
    """32 to 45 TFLOP/s of the model, at the largest microbatch that is left (the paper: 10 to 32)."""
    asked = gpt(50)
    found = trained(asked, 4)
    assert found.fits[0]
    rate = model_flops(asked.model, SEQUENCE, False) * BATCH / found.step_time[0] / 1e12
    assert rate == pytest.approx(40, abs=8)
