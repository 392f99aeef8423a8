"""What was exported without loss is the same plan when it is imported again, whatever the plan."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import job

from simtrain.export.files import files
from simtrain.export.files import settings as told
from simtrain.export.imports import brought
from simtrain.search.space import Space
from simtrain.spec.plan import Plan
from simtrain.spec.request import Request

SCRIPT = ("model ", "optimizer ")
"""What a trainer leaves to a script is stated beside the import."""
JOBS = {
    (trainer, model): job(model, cluster, gpus, stack=stack)
    for trainer, stack in (("megatron-lm", "megatron-core"), ("torchtitan", "torchtitan"), ("deepspeed", "deepspeed"))
    for model, cluster, gpus in (("llama-3-8b", "dgx-h100", 16), ("mixtral-8x7b", "dgx-a100", 32))
}
PLANS: dict[tuple[str, str], list[Plan]] = {}


def expressible(trainer: str, model: str) -> list[Plan]:
    """Legal plans of a job that a trainer can be told, one in some hundreds."""
    if (trainer, model) not in PLANS:
        asked = JOBS[trainer, model]
        table = [plans for plans, _ in Space(asked).blocks() if len(plans)]
        some = [plans.plan(row) for plans in table for row in range(0, len(plans), 101)]
        PLANS[trainer, model] = [
            plan for plan in some if all(what.startswith(SCRIPT) for what in told(trainer, asked, plan).lost)
        ]
    return PLANS[trainer, model]


@pytest.mark.parametrize(("trainer", "model"), JOBS)
def test_enough_plans_can_be_told(trainer: str, model: str) -> None:
    assert len(expressible(trainer, model)) >= (4 if trainer == "deepspeed" else 20)


@pytest.mark.parametrize(("trainer", "model"), JOBS)
@settings(max_examples=30)
@given(data=st.data())
def test_import_of_an_export_is_the_plan(trainer: str, model: str, data: st.DataObject) -> None:
    asked = JOBS[trainer, model]
    plan = data.draw(st.sampled_from(expressible(trainer, model)))
    text = next(iter(files(trainer, asked, plan).values()))
    beside = Request(model=model, cluster=asked.cluster.name, gpus=str(asked.devices), seq=str(asked.sequence))
    found = brought(trainer, text, beside, {})
    assert found.plan == plan
    assert found.imported.unknown == ()
    assert found.job.precision == asked.precision
    assert found.job.stack == asked.stack
    if trainer == "megatron-lm":
        alone = brought(trainer, text, Request(cluster=asked.cluster.name, gpus=str(asked.devices)), {})
        assert (alone.job, alone.plan) == (asked, plan)
