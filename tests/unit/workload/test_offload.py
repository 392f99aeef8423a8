"""States in host memory: what leaves the device, what it costs, what the host must hold."""

from typing import Any

import numpy as np
import pytest
from jobs import job

from simtrain.estimate import TERMS, Estimate, detailed, estimate, machine
from simtrain.spec.base import Fact
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.memory import CLASSES
from simtrain.workload.parameters import total

ASKED = job("llama-3-8b", gpus=8, global_batch=64, stack="deepspeed")
ON = machine(ASKED)
COUNT = total(ASKED.model)
BATCH = {"global_batch": 64, "recompute": "full"}


def of(asked=ASKED, **fields: Any) -> Estimate:
    return estimate(asked, PlanTable.of([Plan(**BATCH | fields)]), ON)


def bytes_of(found: Estimate, name: str) -> float:
    return float(found.memory.classes[CLASSES.index(name), 0])


@pytest.mark.parametrize(
    ("zero", "offload", "on_device"), [(2, "none", 2 + 14 / 8), (2, "optimizer", 2), (3, "all", 0)]
)
def test_states_on_the_device(zero: int, offload: str, on_device: float) -> None:
    """2 + 2 + 12 bytes a parameter, of which the optimizer's 14 or all leave; a bucket of gradients stays."""
    found = of(dp=8, zero=zero, shard_group=8, offload=offload)
    held = sum(bytes_of(found, name) for name in ("weights", "gradients", "optimizer"))
    bucket = ASKED.stack.bucket.value if offload != "none" else 0.0
    assert held == pytest.approx(on_device * COUNT + bucket, rel=1e-3)
    assert float(found.memory.host[0]) == pytest.approx((2 + 14 / 8 if zero == 2 else 2) * COUNT - on_device * COUNT)


def test_the_host_must_hold_them() -> None:
    plan = {"dp": 8, "zero": 3, "shard_group": 8, "offload": "all"}
    assert of(**plan).fits[0]
    node = ASKED.cluster.node
    host = node.host.model_copy(update={"memory": Fact(value=0.9 * 8 * 2 * COUNT)})
    cluster = ASKED.cluster.model_copy(update={"node": node.model_copy(update={"host": host})})
    assert not of(ASKED.model_copy(update={"cluster": cluster}), **plan).fits[0]


def test_processors_update_at_their_rate() -> None:
    """4e9 parameters a second a node, and the new weights back over the link."""
    plans = PlanTable.of([Plan(dp=8, zero=2, shard_group=8, offload="optimizer", **BATCH)])
    update = detailed(ASKED, plans, ON)[1].terms[TERMS.index("optimizer"), 0]
    back = 2 * COUNT / 8 / ASKED.cluster.node.host.device_bandwidth.value
    assert update == pytest.approx(COUNT / 4e9 + back)


def test_copies_that_do_not_hide_stall() -> None:
    """Over a link a hundred times slower weights come in longer than passes take, twice a microbatch."""
    node = ASKED.cluster.node
    slow = Fact(value=node.host.device_bandwidth.value / 100)
    host = node.host.model_copy(update={"device_bandwidth": slow})
    cluster = ASKED.cluster.model_copy(update={"node": node.model_copy(update={"host": host})})
    plan = {"dp": 8, "zero": 3, "shard_group": 8, "offload": "all"}
    asked = ASKED.model_copy(update={"cluster": cluster})
    assert of(asked, **plan).step_time[0] > 8 * 2 * (2 * COUNT / 8 / slow.value)


def test_more_of_the_link_never_costs() -> None:
    times = []
    for factor in (0.1, 1.0, 10.0):
        node = ASKED.cluster.node
        host = node.host.model_copy(update={"device_bandwidth": Fact(value=factor * node.host.device_bandwidth.value)})
        cluster = ASKED.cluster.model_copy(update={"node": node.model_copy(update={"host": host})})
        asked = ASKED.model_copy(update={"cluster": cluster})
        times.append(of(asked, dp=8, zero=3, shard_group=8, offload="all").step_time[0])
    assert np.all(np.diff(times) <= 0)
    assert times[0] > times[-1]
