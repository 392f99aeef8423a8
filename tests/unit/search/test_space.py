"""The space of layouts: complete, legal, counted."""

import itertools

import numpy as np
import pytest
from jobs import job

from simtrain.search.search import unique
from simtrain.search.space import RULES, Space, broken_rules, columns_read
from simtrain.spec.job import Job
from simtrain.spec.plan import COLUMNS, PlanTable
from simtrain.spec.schedule import SCHEDULES


def all_plans(asked: Job) -> tuple[PlanTable, Space]:
    space = Space(asked)
    parts = list(space.blocks())
    for _, tally in parts:
        space.tally.add(tally)
    return PlanTable.concatenate([plans for plans, _ in parts]), space


@pytest.mark.parametrize("model", ["llama-3-8b", "mixtral-8x7b"])
def test_every_plan_is_legal_and_unique(model: str) -> None:
    asked = job(model, gpus=16)
    plans, space = all_plans(asked)
    assert not any(broken_rules(asked, plans))
    assert len(unique(plans)) == len(plans) == space.tally.legal > 1000


def test_nothing_legal_is_missing() -> None:
    """Against the full product of small axes, filtered by the same rules."""
    asked = job(gpus=4, global_batch=8, seq=1024)
    found, _ = all_plans(asked)
    small = [1, 2, 4]
    axes = {
        "tp": small,
        "sp": [0, 1],
        "cp_ring": small,
        "cp_head": small,
        "pp": small,
        "vpp": [1, 2, 4, 8, 16, 32],
        "ep": [1],
        "etp": [1],
        "dp": small,
        "zero": [0, 1, 2, 3],
        "shard_group": small,
        "schedule": [0, 1, 2],
        "micro_batch": [1, 2, 4, 8],
        "global_batch": [8],
        "recompute": [0, 1, 2],
        "full_layers": [0],
        "offload": [0, 1],
    }
    rows = np.array(list(itertools.product(*axes.values())))
    product = PlanTable(**{name: rows[:, i] for i, name in enumerate(axes)})
    keep = np.ones(len(product), dtype=bool)
    for rule in RULES:
        keep &= rule.holds(asked, product)
    legal = product.take(keep)
    # The search shards over all data-parallel ranks or those of one domain, which on one node are the same.
    legal = legal.take((legal.shard_group == 1) | (legal.shard_group == legal.dp * legal.cp))
    whole = found.take(found.full_layers == 0)
    assert len(legal) == len(whole)
    merged = unique(PlanTable.concatenate([legal, whole]))
    assert len(merged) == len(legal)


def test_partial_recomputation_stays_below_a_stage() -> None:
    plans, _ = all_plans(job(gpus=8))
    partly = plans.take(plans.full_layers > 0)
    assert len(partly)
    assert (partly.full_layers < 32 / partly.pp).all()


def test_rejected_and_legal_make_up_the_enumerated() -> None:
    _, space = all_plans(job("gpt-3-175b", "dgx-a100", gpus=64, seq=2048))
    assert space.tally.legal > 0
    assert space.tally.rejected["the mesh uses every device"] > 0
    assert space.tally.rejected["tensor degree divides heads"] > 0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rules_read_what_they_say(rule) -> None:
    """A rule's answer may only change with the columns it was seen to read."""
    asked = job("mixtral-8x7b", gpus=16)
    generator = np.random.default_rng(7)
    plans, _ = all_plans(asked)
    some = plans.take(generator.integers(0, len(plans), 200))
    reads = columns_read(asked, rule)
    shuffled = {name: column if name in reads else generator.permutation(column) for name, column in vars(some).items()}
    before = np.broadcast_to(rule.holds(asked, some), len(some))
    assert (before == np.broadcast_to(rule.holds(asked, PlanTable(**shuffled)), len(some))).all()


def test_columns_are_those_of_a_plan() -> None:
    from simtrain.spec.plan import Plan

    assert {*COLUMNS, "memory"} == set(Plan.model_fields)


@pytest.mark.parametrize("stack", ["zero-bubble", "torchtitan", "megatron-core"])
def test_schedules_are_those_the_stack_offers(stack: str) -> None:
    asked = job("gpt-3-175b", "dgx-a100", gpus=64, seq=2048, global_batch=256, stack=stack)
    plans, _ = all_plans(asked)
    assert {SCHEDULES[i] for i in np.unique(plans.schedule)} == set(asked.stack.schedules)
    folded = plans.folded == 1
    assert (plans.vpp[folded] == 2).all()
    assert (plans.pp[folded] > 1).all()
