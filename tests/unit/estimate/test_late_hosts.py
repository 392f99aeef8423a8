"""What a microbatch takes on a stage beside its kernels."""

import numpy as np
import pytest
from jobs import job

from simtrain.estimate import estimate, machine
from simtrain.estimate.replayed import replayed
from simtrain.laws.collectives import spread
from simtrain.spec.base import Evidence, Fact
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable

WAIT = 0.03
MICROBATCHES = 16


def late(seconds: float) -> Job:
    """A job whose hosts are that late, give or take, for rebuilding a microbatch."""
    asked = job("llama-3-8b", "dgx-a100", gpus=8, global_batch=MICROBATCHES, stack="aa-scaling")
    fact = Fact[float](value=seconds, source="made up", evidence=Evidence.ASSUMED)
    return asked.model_copy(update={"stack": asked.stack.model_copy(update={"rebuild_wait": fact})})


def longer(plan: Plan) -> float:
    """Seconds that a step of the plan takes longer for it."""
    times = [estimate(asked, PlanTable.of([plan]), machine(asked)).step_time[0] for asked in (late(WAIT), late(0.0))]
    return float(times[0] - times[1])


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_tensor_ranks_wait_for_the_last_before_they_rebuild_a_microbatch(tp: int) -> None:
    plan = Plan(tp=tp, dp=8 // tp, global_batch=MICROBATCHES, recompute="full")
    waited = plan.global_batch // plan.dp * WAIT * float(spread(np.array(tp)))
    assert longer(plan) == pytest.approx(waited)
    assert longer(plan.model_copy(update={"recompute": "none"})) == 0


def test_replayed_steps_wait_as_the_closed_form_does() -> None:
    plan = Plan(tp=4, pp=2, global_batch=MICROBATCHES, recompute="full")
    steps = [replayed(asked, plan, machine(asked)).step.seconds for asked in (late(WAIT), late(0.0))]
    assert steps[0] - steps[1] == pytest.approx(longer(plan), rel=0.01)
