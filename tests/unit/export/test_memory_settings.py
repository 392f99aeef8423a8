"""Memory plans in trainers' settings: as fixed choices where they are such, as modules, or noted."""

import pytest
from jobs import job

from simtrain.export.files import MEMORY, settings
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MADE_AGAIN, MemoryPlan, StageMemory, Treatment
from simtrain.spec.plan import Plan

ASKED = job("llama-3-8b", gpus=8, global_batch=64)
LAYERS = 16
PRESENT = ("normed", "projected", "attention", "middle", "expanded", "activated")


def planned(tensors: dict[str, Treatment], **fields) -> Plan:
    memory = MemoryPlan(stages=(StageMemory(first=0, last=1, tensors=tensors),), **fields)
    return Plan(tp=2, sp=True, pp=2, dp=2, zero=1, shard_group=2, global_batch=64, memory=memory)


def again(layers: int, names=PRESENT) -> dict[str, Treatment]:
    assert set(names) <= set(MADE_AGAIN)
    return {name: Treatment(recompute=layers) for name in names}


def told(trainer: str, plan: Plan, asked: Job = ASKED) -> dict:
    found = settings(trainer, asked, plan)
    assert MEMORY not in found.lost
    return found.values


def test_all_made_again_is_full_recomputation_in_every_trainer() -> None:
    plan = planned(again(LAYERS))
    fixed = plan.model_copy(update={"memory": None, "recompute": "full"})
    for trainer in ("megatron-lm", "torchtitan", "deepspeed", "accelerate"):
        assert told(trainer, plan) == settings(trainer, ASKED, fixed).values
    assert told("torchtitan", plan)["activation_checkpoint.mode"] == "full"


def test_some_layers_made_again_are_the_block_method() -> None:
    found = told("megatron-lm", planned(again(5)))
    assert found["--recompute-method"] == "block"
    assert found["--recompute-num-layers"] == 5
    assert told("torchtitan", planned(again(4)))["activation_checkpoint.selective_ac_option"] == "4"


def test_modules_made_again_and_modules_whose_inputs_move() -> None:
    moved = {"input": Treatment(offload=LAYERS), "middle": Treatment(offload=LAYERS)}
    found = told("megatron-lm", planned(again(LAYERS, ("expanded", "activated", "normed")) | moved))
    assert found["--recompute-granularity"] == "selective"
    assert set(found["--recompute-modules"].split()) == {"layernorm", "mlp"}
    assert found["--fine-grained-activation-offloading"] is True
    assert set(found["--offload-modules"].split()) == {"attn_norm", "mlp_norm"}


@pytest.mark.parametrize(
    "plan",
    [
        planned(again(5, ("expanded", "activated"))),
        planned({"expanded": Treatment(quantise=LAYERS)}),
        planned({"expanded": Treatment(offload=LAYERS)}),
        planned({"input": Treatment(offload=LAYERS)}, tier="nvme"),
        planned(again(LAYERS), loss_chunks=8),
    ],
)
def test_what_no_module_does_is_noted(plan: Plan) -> None:
    assert MEMORY in settings("megatron-lm", ASKED, plan).lost


def test_experts_have_modules_of_their_own() -> None:
    asked = job("mixtral-8x7b", gpus=8, global_batch=64)
    plan = planned(again(LAYERS, ("routed", "expanded", "activated", "attention")))
    assert set(told("megatron-lm", plan, asked)["--recompute-modules"].split()) == {"core_attn", "moe"}


def test_placements_of_states() -> None:
    plan = Plan(dp=8, zero=3, shard_group=8, global_batch=64, offload="weights=cpu,optimizer=nvme")
    found = told("deepspeed", plan)
    assert found["zero_optimization.offload_param.device"] == "cpu"
    assert found["zero_optimization.offload_optimizer.device"] == "nvme"
    assert "zero_optimization.offload_optimizer.nvme_path" in found
    hybrid = Plan(dp=8, zero=1, shard_group=8, global_batch=64, offload="master,moments")
    assert told("megatron-lm", hybrid)["--optimizer-cpu-offload"] is True
    assert any("offload moments=cpu" in what for what in settings("deepspeed", ASKED, Plan(offload="moments")).lost)
