"""ZeRO-Infinity (arXiv 2104.07857): bandwidths by its law, and trillions of parameters on V100 of 32 GB."""

import pytest
from jobs import job

from simtrain.estimate import machine
from simtrain.estimate.replayed import exact
from simtrain.laws.offload import (
    activation_intensity,
    efficiency,
    needed_bandwidth,
    optimizer_intensity,
    state_intensity,
)
from simtrain.search.memory import Layout, followed
from simtrain.spec import load
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload.flops import model_flops
from simtrain.workload.parameters import total

GIB = 2.0**30
PEAK, SEQUENCE = 70e12, 1024
RECOMPUTED = 4 / 3
"""FLOP run over FLOP of the model where all layers are made again: the paper counts what runs."""


def test_bandwidths() -> None:
    """Section 4, at 70 TFLOP/s and sequences of 1,024: 70 GB/s of weights and gradients for half the rate (batch 1),
    1.5 TB/s of optimizer states for nine tenths (batch 2); the formulas give 68.4 and 1,230."""
    assert needed_bandwidth(state_intensity(SEQUENCE, 1), 0.5, PEAK) == pytest.approx(68.36e9, rel=1e-3)
    assert needed_bandwidth(optimizer_intensity(SEQUENCE, 2), 0.9, PEAK) == pytest.approx(1.2305e12, rel=1e-3)


def test_the_efficiency_table() -> None:
    """Efficiency over bandwidth: of weights and gradients, of optimizer states, of activations kept every layer."""
    states = [float(efficiency(state_intensity(SEQUENCE, batch), 70e9, PEAK)) for batch in (1, 2, 4, 8, 16)]
    assert states == pytest.approx([0.506, 0.672, 0.804, 0.891, 0.942], abs=1e-3)
    optimizer = [float(efficiency(optimizer_intensity(SEQUENCE, batch), 1.5e12, PEAK)) for batch in (2, 4)]
    assert optimizer == pytest.approx([0.916, 0.956], abs=1e-3)
    activations = [float(efficiency(activation_intensity(hidden, 1), 2e9, PEAK)) for hidden in (2048, 8192, 65536)]
    assert activations == pytest.approx([0.584, 0.849, 0.978], abs=1e-3)
    assert activations[0] > 0.5, "2 GB/s suffice from a width of 2,048 on"


def gpt(layers: int, hidden: int, gpus: int, batch: int) -> Job:
    """GPT of that size on DGX-2."""
    found = job(
        "gpt-3-175b", "dgx-2", gpus, seq=SEQUENCE, global_batch=batch, stack="deepspeed-2021", precision="fp16-mixed"
    )
    heads = hidden // 128
    shape = {"layers": layers, "hidden": hidden, "heads": heads, "kv_heads": heads, "head_dim": 128, "ffn": 4 * hidden}
    return found.model_copy(update={"model": found.model.model_copy(update=shape)})


def test_a_trillion_parameters_on_512_devices() -> None:
    """49 TFLOP/s each, states in host memory (DeepSpeed, 2021-03-08); 128 layers of 25,600, four tensor ranks and seven
    sequences a microbatch are recalled from the paper's table of configurations."""
    plan = Plan(tp=4, dp=128, zero=3, shard_group=128, micro_batch=7, global_batch=896)
    policy = load.policy("zero-3-offload")
    asked, plan = followed(gpt(128, 25600, 512, 896), plan, policy)
    on = machine(asked)
    found = Layout(asked, plan, on).planned(asked.cluster.device.memory.value, policy)
    assert found is not None
    assert found.agrees
    known, _ = exact(asked, PlanTable.of([found.plan]), on, memory=[found.plan.memory])
    assert known.fits[0]
    rate = RECOMPUTED * model_flops(asked.model, SEQUENCE, False) * 896 / known.step_time[0] / 512 / 1e12
    assert rate == pytest.approx(49, rel=0.15)


def test_a_trillion_parameters_on_one_node_need_its_drives() -> None:
    """The abstract: fine-tuning of a trillion on one DGX-2. Its 1.5 TB of host memory hold no 16 bytes of each."""
    asked = gpt(128, 25600, 16, 16)
    assert total(asked.model) == pytest.approx(1e12, rel=0.02)
    plan = Plan(tp=4, dp=4, zero=3, shard_group=4, global_batch=16, recompute="full")
    both = [plan.model_copy(update={"offload": where}) for where in ("all", "all=nvme")]
    found, _ = exact(asked, PlanTable.of(both), machine(asked))
    assert found.fits.tolist() == [False, True]
    assert float(found.memory.host[1]) == 0.0
    assert float(found.memory.drives[1]) == pytest.approx(16 * total(asked.model) / 16, rel=0.02)


def test_more_than_drives_hold_does_not_fit() -> None:
    asked = gpt(256, 51200, 16, 16)
    plan = Plan(tp=4, dp=4, zero=3, shard_group=4, global_batch=16, recompute="full", offload="all=nvme")
    found, _ = exact(asked, PlanTable.of([plan]), machine(asked))
    assert found.memory.drives[0] > found.drives_capacity
    assert not found.fits[0]
