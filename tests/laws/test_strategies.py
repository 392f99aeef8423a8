"""One battery over every strategy: its rules, its identity, and what no plan of any strategy may break."""

import functools
import importlib
import pkgutil
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import job

from simtrain.estimate import TERMS, detailed, estimate, machine
from simtrain.search.space import RULES, Space, broken_rules
from simtrain.spec.job import Job
from simtrain.spec.plan import COLUMNS, Plan, PlanTable
from simtrain.timeline.memory import CLASSES
from simtrain.workload import strategies
from simtrain.workload.rule import Rule

STRATEGIES = [
    importlib.import_module(f"{strategies.__name__}.{found.name}")
    for found in pkgutil.iter_modules(strategies.__path__)
]
ALONE = {"global_batch": 8}
"""One device, every degree 1."""
WITH_EACH = {
    "context": {"cp_ring": 2, "cp_head": 2},
    "expert": {"tp": 4, "sp": True, "ep": 2, "etp": 2},
    "mesh": {"dp": 4},
    "offload": {"dp": 4, "zero": 3, "shard_group": 4, "offload": "all"},
    "pipeline": {"pp": 4, "vpp": 2, "schedule": "interleaved"},
    "recompute": {"recompute": "full"},
    "sharding": {"dp": 4, "zero": 3, "shard_group": 4},
    "tensor": {"tp": 4, "sp": True},
}
"""A legal plan that uses the strategy."""
CASES = [
    ("llama-3-8b", "dgx-h100", 16, "megatron-core"),
    ("mixtral-8x7b", "dgx-a100", 32, "megatron-core"),
    ("deepseek-v3", "gb200-nvl72", 72, "megatron-core"),
    ("gemma-2-9b", "mi300x-8x", 16, "torchtitan"),
    ("gpt-3-175b", "dgx-1v", 64, "megatron-lm-2022"),
    ("deepseek-v2-lite", "dgx-h100", 32, "deepspeed"),
]
EXACT = 1e-12
HIDING = 5e-3
"""A slower collective is also something to hide behind, on another stage than the busiest: that much may be lost."""


def named(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


Case = tuple[str, str, int, str]


def asked(model: str, cluster: str, gpus: int, stack: str) -> Job:
    return job(model, cluster, gpus, seq=2048, global_batch=72 if gpus == 72 else 64, stack=stack)


@functools.cache
def legal(case: Case) -> tuple[Job, PlanTable]:
    """A case's job and some thousand of its legal plans."""
    found = asked(*case)
    generator = np.random.default_rng(1)
    parts = []
    for plans, _ in Space(found).blocks():
        parts.append(plans.take(generator.integers(0, len(plans), min(len(plans), 1000))) if len(plans) else plans)
    return found, PlanTable.concatenate(parts)


def some(case: Case, seed: int, rows: int) -> tuple[Job, PlanTable]:
    found, plans = legal(case)
    return found, plans.take(np.random.default_rng(seed).integers(0, len(plans), rows))


def with_bandwidths(found: Job, scaleup: float, network: float) -> Job:
    """The job on links and adapters so many times as fast."""
    node = found.cluster.node
    links, adapters = (
        part.model_copy(
            update={"bandwidth": part.bandwidth.model_copy(update={"value": part.bandwidth.value * factor})}
        )
        for part, factor in ((node.scaleup, scaleup), (node.nic, network))
    )
    faster = node.model_copy(update={"scaleup": links, "nic": adapters})
    return found.model_copy(update={"cluster": found.cluster.model_copy(update={"node": faster})})


def with_memory(found: Job, capacity: float) -> Job:
    device = found.cluster.device
    larger = device.model_copy(update={"memory": device.memory.model_copy(update={"value": capacity})})
    return found.model_copy(update={"cluster": found.cluster.model_copy(update={"device": larger})})


SEEDS = st.integers(0, 2**32 - 1)
EVERY = settings(max_examples=5, derandomize=True)
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
each_strategy = pytest.mark.parametrize("module", STRATEGIES, ids=named)


@each_strategy
def test_the_search_knows_its_rules(module: ModuleType) -> None:
    assert module.__doc__
    assert module.RULES
    assert set(module.RULES) <= set(RULES)


def test_rules_are_told_apart_by_name() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert all(rule.reason and rule.reason != rule.name for rule in RULES)


REJECTED: dict[str, dict[str, Any]] = {
    "the mesh uses every device": {"tp": 2},
    "the batch divides": {"dp": 4, "micro_batch": 3},
    "tensor degree divides heads": {"tp": 3},
    "key-value heads split or replicate evenly": {"tp": 12},
    "tensor degree divides the feed-forward": {"tp": 3},
    "sequence parallelism divides the sequence": {"tp": 3, "sp": True},
    "sequence parallelism needs tensor ranks": {"sp": True},
    "the stack has sequence parallelism": {"tp": 2, "sp": True},
    "context degree divides the sequence": {"cp_ring": 3},
    "head-wise context degree divides the heads": {"cp_head": 16},
    "context chunks are long enough": {"cp_ring": 16},
    "expert degree needs experts": {"ep": 2},
    "expert degree divides the experts": {"ep": 3, "dp": 3},
    "expert tensor degree divides the expert width": {"etp": 3, "tp": 3},
    "the expert mesh covers the stage": {"ep": 8, "dp": 4},
    "expert slices stay within the tensor group": {"etp": 2, "dp": 4},
    "every stage holds a layer": {"pp": 64},
    "chunks are equal": {"pp": 4, "vpp": 3, "schedule": "interleaved", "global_batch": 64},
    "chunks belong to schedules that interleave or fold them": {"pp": 4, "vpp": 2},
    "interleaving needs a pipeline": {"vpp": 2, "schedule": "interleaved"},
    "interleaving needs whole rounds of microbatches": {"pp": 3, "vpp": 2, "schedule": "interleaved"},
    "a V has two chunks a stage, a wave two more": {"pp": 2, "vpp": 4, "schedule": "zb-v"},
    "both ways of a V are full": {"pp": 4, "vpp": 2, "schedule": "dualpipe-v", "global_batch": 7},
    "the stack has this schedule": {"pp": 4, "schedule": "zb-1p"},
    "schedules differ from 1F1B only in a pipeline": {"schedule": "gpipe"},
    "the stack can offload this": {"offload": "optimizer"},
    "drives hold states where there are drives": {"offload": "all=nvme"},
    "weights leave the device where they are sharded": {"offload": "all"},
    "gradients leave the device where they are done with": {"pp": 4, "offload": "optimizer"},
    "the stack has this state sharding": {"dp": 4, "zero": 1, "shard_group": 4},
    "sharding needs data-parallel ranks": {"zero": 1},
    "a shard group is used": {"dp": 4, "zero": 1},
    "the shard group divides the data-parallel ranks": {"dp": 4, "zero": 1, "shard_group": 3},
    "the stack has hybrid sharding": {"dp": 4, "zero": 1, "shard_group": 2},
    "partial recomputation names fewer layers than a stage holds": {"recompute": "full", "full_layers": 2},
}
"""A plan each rule rejects: of Mixtral on 4 devices, or of the job named below."""
MIXTRAL = job("mixtral-8x7b", gpus=4, seq=2048)
JOBS = {
    "the stack has sequence parallelism": job("mixtral-8x7b", gpus=4, seq=2048, stack="deepspeed"),
    "expert degree needs experts": job("llama-3-8b", gpus=4, seq=2048),
    "drives hold states where there are drives": job("mixtral-8x7b", "h100-pcie-8x", 4, seq=2048),
    "the stack has this state sharding": job("mixtral-8x7b", gpus=4, seq=2048, stack="megatron-lm-2022"),
    "the stack has hybrid sharding": job("mixtral-8x7b", gpus=4, seq=2048, stack="megatron-lm-2022"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_rejects_and_accepts(rule: Rule) -> None:
    found = JOBS.get(rule.name, MIXTRAL)
    wrong = PlanTable.of([Plan(**ALONE | REJECTED[rule.name])])
    right = PlanTable.of([Plan(**ALONE | {"dp": 4})])
    assert not rule.holds(found, wrong).any()
    assert rule.holds(found, right).all()


@each_strategy
def test_degree_one_is_the_identity(module: ModuleType) -> None:
    """Priced in one table with a plan that uses the strategy, a plan that does not sends and rebuilds nothing."""
    found = job("mixtral-8x7b", gpus=1, seq=2048, global_batch=8)
    on = machine(found)
    alone = Plan(**ALONE)
    used = Plan(**ALONE | WITH_EACH[named(module)])
    together = detailed(found, PlanTable.of([used, alone]), on)[1].terms[:, 1]
    single = detailed(found, PlanTable.of([alone]), on)[1].terms[:, 0]
    assert (together == single).all()
    terms = dict(zip(TERMS, single.tolist(), strict=True))
    assert all(terms[name] == 0 for name in TERMS if "communication" in name)
    assert terms["bubble"] == terms["gradient reduction"] == terms["parameter gathering"] == 0
    assert not np.array_equal(detailed(found, PlanTable.of([used]), on)[1].terms[:, 0], single)


@each_strategy
def test_examples_are_legal(module: ModuleType) -> None:
    plan = Plan(**ALONE | WITH_EACH[named(module)])
    devices = plan.tp * plan.cp_ring * plan.cp_head * plan.pp * plan.dp
    stack = "deepspeed" if plan.offload != "none" else "megatron-core"
    found = job("mixtral-8x7b", gpus=devices, seq=2048, global_batch=8, stack=stack)
    assert not broken_rules(found, PlanTable.of([plan]))[0]


@each_case
@EVERY
@given(SEEDS)
def test_frozen_weights_cost_less_with_every_strategy(case: Case, seed: int) -> None:
    """Adapters of a frozen model are computed faster than its gradients, and hold less.

    Beyond four tensor ranks a slice of the weights is small enough that the adapter's dropout takes as long.
    """
    found, plans = some(case, seed, 300)
    plans = plans.take(plans.tp <= 4)
    frozen, on = found.model_copy(update={"adapter_rank": 16}), machine(found)
    less, all_trained = estimate(frozen, plans, on), estimate(found, plans, on)
    assert (less.step_time < all_trained.step_time).all()
    gradients, optimizer = (CLASSES.index(name) for name in ("gradients", "optimizer"))
    for states in (gradients, optimizer):
        assert (less.memory.classes[states] <= 0.05 * all_trained.memory.classes[states]).all()
        assert less.memory.classes[states].sum() < 0.05 * all_trained.memory.classes[states].sum()


@each_case
@EVERY
@given(SEEDS)
def test_estimates_are_sound(case: Case, seed: int) -> None:
    """Positive finite times that their terms make up, memory classes that make up the total, an interval around."""
    found, plans = some(case, seed, 300)
    on = machine(found)
    priced, parts = detailed(found, plans, on)
    assert np.isfinite(priced.step_time).all()
    assert (priced.step_time > 0).all()
    assert (parts.terms >= 0).all()
    assert parts.terms.sum(axis=0) == pytest.approx(priced.step_time, rel=EXACT)
    assert ((parts.measured >= 0) & (parts.measured <= 1)).all()
    assert (parts.low < priced.step_time).all()
    assert (priced.step_time < parts.high).all()
    assert (priced.memory.classes >= 0).all()
    assert priced.memory.total == pytest.approx(priced.memory.classes.sum(axis=0), rel=EXACT)
    assert (priced.mfu(causal=True) < 1).all()
    assert (parts.hardware_flops > 0).all()


@each_case
@EVERY
@given(SEEDS)
def test_plans_do_not_see_one_another(case: Case, seed: int) -> None:
    """A plan is priced the same, to the bit, alone and among others, in any order."""
    found, plans = some(case, seed, 200)
    on = machine(found)
    priced, parts = detailed(found, plans, on)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(plans))
    shuffled = estimate(found, plans.take(order), on)
    assert (shuffled.step_time == priced.step_time[order]).all()
    assert (shuffled.memory.classes == priced.memory.classes[:, order]).all()
    for row in generator.integers(0, len(plans), 10):
        one = plans.take(np.array([row]))
        alone, its_parts = detailed(found, one, on)
        assert alone.step_time[0] == priced.step_time[row]
        assert (alone.memory.classes[:, 0] == priced.memory.classes[:, row]).all()
        assert (its_parts.terms[:, 0] == parts.terms[:, row]).all()
        assert its_parts.measured[0] == parts.measured[row]
        assert its_parts.hardware_flops[0] == parts.hardware_flops[row]


@each_case
@EVERY
@given(SEEDS, st.floats(1.05, 8), st.floats(1.05, 8))
def test_faster_links_never_slow_a_plan(case: Case, seed: int, near: float, far: float) -> None:
    """Compared where no measured curve holds: those are of one bandwidth."""
    found, plans = some(case, seed, 300)
    base = with_bandwidths(found, 1.1, 1.0)
    before = estimate(base, plans, machine(base)).step_time
    for changed in (with_bandwidths(base, near, 1.0), with_bandwidths(base, 1.0, far)):
        assert (estimate(changed, plans, machine(changed)).step_time <= before * (1 + HIDING)).all()


@each_case
@EVERY
@given(SEEDS, st.floats(1, 8))
def test_more_memory_never_loses_a_plan(case: Case, seed: int, growth: float) -> None:
    found, plans = some(case, seed, 300)
    larger = with_memory(found, found.cluster.device.memory.value * growth)
    before, after = (estimate(j, plans, machine(j)) for j in (found, larger))
    assert (after.fits >= before.fits).all()
    assert (after.step_time == before.step_time).all()


@each_case
@EVERY
@given(SEEDS)
def test_rebuilding_costs_time(case: Case, seed: int) -> None:
    """Of two plans that differ in recomputation only, the one that rebuilds more is not faster and does more FLOP."""
    found, plans = some(case, seed, 200)
    on = machine(found)
    plans = plans.take(plans.full_layers == 0)
    times, flops = [], []
    for mode in (0, 1, 2):
        columns = {name: getattr(plans, name) for name in COLUMNS} | {"recompute": np.full(len(plans), mode)}
        same = PlanTable(**columns)
        times.append(estimate(found, same, on).step_time)
        flops.append(detailed(found, same, on)[1].hardware_flops)
    for less, more in ((0, 1), (1, 2)):
        assert (times[less] <= times[more] * (1 + EXACT)).all()
        assert (flops[less] <= flops[more] * (1 + EXACT)).all()
