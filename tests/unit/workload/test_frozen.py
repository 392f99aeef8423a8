"""Frozen parts of a model: no gradient, no moments, no products of theirs, nothing kept for them."""

import pytest
from jobs import job

from simtrain.errors import WrongInput
from simtrain.estimate import estimate, machine
from simtrain.spec.frozen import PARTS, Freeze
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.request import Request
from simtrain.timeline.memory import CLASSES
from simtrain.workload.parameters import parameters, total
from simtrain.workload.program import program

PLANS = PlanTable.of([Plan(tp=2, sp=True, dp=4, zero=1, shard_group=4, global_batch=64)])
ASKED = job("llama-3-8b", gpus=8, global_batch=64)


def frozen(asked: Job, freeze: Freeze) -> Job:
    return Job.model_validate(asked.model_dump() | {"freeze": freeze})


def held(asked: Job):
    return program(asked, PLANS, True).stages.states


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b"])
def test_a_part_at_a_time_makes_up_the_model(model: str) -> None:
    """Weights with a gradient when all other parts are frozen, summed over the parts: all weights."""
    asked = job(model, gpus=8, global_batch=64)
    rest = [{other: 1.0 for other in PARTS if other != part} for part in PARTS]
    trained = [
        float((kind.dense.trained + kind.expert.trained).sum()) for kind in (held(frozen(asked, one)) for one in rest)
    ]
    whole = held(asked)
    assert sum(trained) == pytest.approx(float((whole.dense.trained + whole.expert.trained).sum()))


def test_half_the_layers_save_half_of_what_all_save() -> None:
    on = machine(ASKED)
    full, half, all_ = (
        estimate(frozen(ASKED, {"feed-forward": share}), PLANS, on) if share else estimate(ASKED, PLANS, on)
        for share in (0.0, 0.5, 1.0)
    )
    for name in ("gradients", "optimizer", "activations"):
        sizes = [float(one.memory.classes[CLASSES.index(name), 0]) for one in (full, half, all_)]
        assert sizes[1] == pytest.approx((sizes[0] + sizes[2]) / 2, rel=1e-6)
        assert sizes[2] < sizes[0]
    times = [float(one.step_time[0]) for one in (full, half, all_)]
    assert times[1] == pytest.approx((times[0] + times[2]) / 2, rel=0.01)
    assert full.mfu(True)[0] * times[0] > all_.mfu(True)[0] * times[2]


def test_a_frozen_embedding_has_no_states_but_its_weights() -> None:
    counts = parameters(ASKED.model)
    whole, part = held(ASKED), held(frozen(ASKED, {"embedding": 1.0}))
    assert float((whole.dense.trained - part.dense.trained).sum()) == pytest.approx(counts.embedding / 2)
    assert part.weights.tolist() == whole.weights.tolist()
    assert float((whole.optimizer - part.optimizer).sum()) == pytest.approx(12 * counts.embedding / 2 / 4)


def test_frozen_weights_of_a_single_copy_are_held_as_they_travel() -> None:
    """FSDP keeps trained weights as the optimizer's master copy, frozen ones beside it."""
    asked = frozen(job("llama-3-8b", gpus=8, stack="torchtitan"), {"attention": 1.0, "feed-forward": 1.0, "head": 1.0})
    plans = PlanTable.of([Plan(dp=8, zero=3, shard_group=8, global_batch=8)])
    states = program(asked, plans, True).stages.states
    still = total(asked.model) - parameters(asked.model).embedding
    assert float(states.weights.sum()) == pytest.approx(2 * still / 8)
    assert float(states.optimizer.sum()) == pytest.approx(12 * parameters(asked.model).embedding / 8)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"freeze": "attention=0.5,ffn,head=2"}, ["is no part of a model", "must be a share"]),
        ({"freeze": "embedding=0.5"}, ["there is one embedding"]),
        ({"freeze": "attention,feed-forward,embedding,head"}, ["every part is frozen"]),
        ({"freeze": "head", "adapter_rank": "8"}, ["adapters freeze the whole model"]),
        ({"freeze": "head", "model": "gpt-3-175b"}, ["the same weights"]),
    ],
)
def test_what_cannot_be_frozen(fields: dict[str, str], said: list[str]) -> None:
    with pytest.raises(WrongInput) as wrong:
        Request(**{"model": "llama-3-8b", "cluster": "dgx-h100", **fields}).job()
    for words, problem in zip(said, wrong.value.problems, strict=True):
        assert words in str(problem)
