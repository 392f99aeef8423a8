"""How much of a step rests on measurements: the mean over its layers, each kind as often as the model has it."""

import numpy as np
import pytest
from jobs import job

from simtrain.estimate import detailed, machine
from simtrain.price.blocks import block_time
from simtrain.spec.plan import Plan, PlanTable
from simtrain.workload import blocks
from simtrain.workload.shard import Shard


def test_share_is_of_the_layers_a_model_has() -> None:
    """DeepSeek-V3: 3 dense layers, whose products are measured, and 58 of experts, whose grouped products are not."""
    asked = job("deepseek-v3", gpus=64, seq=4096)
    plans, on = PlanTable.of([Plan(dp=64, global_batch=64)]), machine(asked)
    measured, seconds = np.zeros(1), np.zeros(1)
    shares = []
    for moe, count in ((False, 3), (True, 58)):
        time = block_time(blocks.layer(Shard(asked, plans), moe, True), asked, on, 1)
        whole = (time.forward + time.backward).sum(axis=0)
        measured, seconds = measured + count * time.measured, seconds + count * whole
        shares.append((time.measured / whole)[0])
    found = detailed(asked, plans, on)[1].measured[0]
    assert found == pytest.approx((measured / seconds)[0])
    assert shares[1] < found < shares[0]
    assert found - shares[1] < shares[0] - found
