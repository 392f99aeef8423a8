"""Search: the same answer as looking at everything, an honest front, honest counts, advice that works."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import job
from numpy.typing import NDArray

from simtrain.estimate import Estimate, estimate, machine
from simtrain.estimate.replayed import exact
from simtrain.search.advice import advice, fits
from simtrain.search.pareto import front, thinned
from simtrain.search.refine import neighbours
from simtrain.search.search import TOLD_APART, Search, search, unique
from simtrain.search.space import RULES, Space, legal, orders
from simtrain.spec import load
from simtrain.spec.job import Job
from simtrain.spec.library import names
from simtrain.spec.plan import Plan, PlanTable

SMALL = {
    "dense": job("llama-3-8b", gpus=4, global_batch=8, seq=1024),
    "pipelined": job("gpt-3-175b", "dgx-a100", gpus=64, global_batch=8, seq=2048, stack="megatron-lm-2022"),
    "experts": job("gpt-oss-20b", gpus=8, global_batch=8, seq=1024),
    "batches": job("llama-3-8b", gpus=2, global_batch="4,8,16", seq=2048),
}
TOP = 20


@functools.cache
def both(name: str) -> tuple[Search, Estimate]:
    """What the search says, and the estimate of every legal plan in one table."""
    asked = SMALL[name]
    plans = PlanTable.concatenate([plans for plans, _ in Space(asked).blocks()])
    return search(asked, TOP), estimate(asked, plans, machine(asked))


def pace(found: Estimate) -> NDArray[np.float64]:
    """Seconds a sequence."""
    return found.step_time / found.plans.global_batch


def meshes(plans: PlanTable) -> list[tuple[int, ...]]:
    """What tells ranked plans apart."""
    return list(zip(*(getattr(plans, name).tolist() for name in ("tp", "cp", "pp", "ep")), strict=True))


def fastest_of_each_mesh(found: Estimate) -> list[int]:
    """Rows of plans that fit, fastest first, each mesh once; written out rather than vectorised."""
    seen: set[tuple[int, ...]] = set()
    rows = []
    for row in sorted(np.flatnonzero(found.roomy), key=lambda row: (pace(found)[row], found.memory.total[row])):
        mesh = meshes(found.plans.take(np.array([row])))[0]
        if mesh not in seen:
            seen.add(mesh)
            rows.append(int(row))
    return rows


each_job = pytest.mark.parametrize("name", SMALL)


@each_job
def test_the_best_are_the_best_of_all(name: str) -> None:
    """The fastest of each mesh, of all plans of the space and of the finer steps around the best of these, replayed."""
    found, everything = both(name)
    coarse = everything.plans.take(fastest_of_each_mesh(everything)[:TOP])
    finer = unique(PlanTable.concatenate([coarse, neighbours(found.job, coarse)]))
    refined = estimate(found.job, finer, machine(found.job))
    order = fastest_of_each_mesh(refined)[:TOP]
    assert len(order) > 1
    replayed, _ = exact(found.job, refined.plans.take(order), machine(found.job))
    ours = dict(zip(meshes(found.best.plans), pace(found.best), strict=True))
    theirs = dict(zip(meshes(replayed.plans), pace(replayed), strict=True))
    assert ours.keys() == theirs.keys()
    assert all(ours[mesh] <= theirs[mesh] for mesh in theirs)
    again, _ = exact(found.job, found.best.plans, machine(found.job))
    assert (again.step_time == found.best.step_time).all()
    assert found.best.fits.all()
    assert (np.diff(pace(found.best)) >= 0).all()


def test_schedules_of_one_mesh_are_replayed_and_what_does_not_fit_then_is_left_out() -> None:
    """PyTorch's schedules: zero-bubble ones may hold more than their closed form says."""
    asked = job("llama-3-70b", gpus=64, global_batch=128, stack="torchtitan")
    found = search(asked, 10)
    assert found.best.fits.all()
    assert found.pareto.fits.all()
    best = found.best.plans.plan(0)
    others = [best.model_copy(update={"schedule": name, "vpp": chunks}) for name, chunks in orders(asked)]
    table = PlanTable.of(others)
    table = table.take(legal(asked, table))
    replayed, _ = exact(asked, table, machine(asked))
    assert len({*table.schedule.tolist()}) >= 4
    fastest = replayed.step_time[replayed.roomy].min()
    assert found.best.step_time[0] <= fastest * 1.002


@each_job
def test_counts_are_of_everything(name: str) -> None:
    found, everything = both(name)
    assert found.tally.legal == len(everything.plans)
    assert found.fits == everything.fits.sum()
    assert found.tally.enumerated == found.tally.legal + sum(found.tally.rejected.values())
    assert set(found.tally.rejected) <= {rule.name for rule in RULES}
    assert all(found.tally.rejected.values())


@each_job
def test_the_closest_needs_least_memory(name: str) -> None:
    found, everything = both(name)
    assert found.closest.memory.total[0] == pytest.approx(everything.memory.total.min(), rel=1e-12)


@each_job
def test_the_front_is_of_everything(name: str) -> None:
    found, everything = both(name)
    good = everything.fits
    rows = np.flatnonzero(good)[front(pace(everything)[good], everything.memory.total[good])]
    rows = rows[thinned(everything.memory.total[rows], TOLD_APART)]
    expected = everything.plans.take(rows)
    replayed, _ = exact(found.job, expected, machine(found.job))
    left = front(pace(replayed), replayed.memory.total)
    assert len(left) > 1
    assert pace(found.pareto).tolist() == pace(replayed)[left].tolist()
    assert found.pareto.memory.total == pytest.approx(replayed.memory.total[left], rel=1e-12)


@each_job
def test_ties_are_what_the_interval_reaches(name: str) -> None:
    found, _ = both(name)
    low = found.detail.low / found.best.plans.global_batch
    assert found.ties.tolist() == [bool(each <= pace(found.best)[0]) for each in low]
    assert found.ties[0]


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40)


@given(POINTS)
def test_front_by_definition(points: list[tuple[int, int]]) -> None:
    """On the front: no other point is at least as good in both and better in one; of equal points, the first."""
    first, second = (np.array([float(point[axis]) for point in points]) for axis in (0, 1))
    expected = [
        i
        for i, (x, y) in enumerate(points)
        if not any(u <= x and v <= y and (u, v) != (x, y) for u, v in points) and points.index((x, y)) == i
    ]
    found = front(first, second)
    assert sorted(found.tolist()) == expected
    assert (np.diff(first[found]) > 0).all()


def test_unique_keeps_first_appearances() -> None:
    plans = PlanTable.of([Plan(dp=2), Plan(dp=4), Plan(dp=2), Plan(tp=2)])
    assert [plan.dp for plan in map(unique(plans).plan, range(3))] == [2, 4, 1]


def test_progress_counts_blocks() -> None:
    seen: list[tuple[int, int]] = []
    search(SMALL["experts"], 1, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}


HOPELESS = {
    "states": job("llama-3-8b", gpus=1),
    "experts": job("mixtral-8x7b", gpus=4),
    "activations": job("llama-3-8b", gpus=8, seq=1048576, global_batch=1),
    "never": job("llama-3-405b", gpus=1, global_batch=1),
    "no sharding": job("gpt-3-175b", "dgx-a100", gpus=16, seq=2048, stack="megatron-lm-2022"),
}


@functools.cache
def hopeless(name: str) -> tuple[Search, list[str]]:
    found = search(HOPELESS[name], 5)
    return found, advice(found)


each_hopeless = pytest.mark.parametrize("name", HOPELESS)


@each_hopeless
def test_nothing_fits_is_an_answer(name: str) -> None:
    found, _ = hopeless(name)
    assert found.fits == 0
    assert found.tally.legal > 0
    assert len(found.best.plans) == len(found.pareto.plans) == len(found.ties) == 0
    assert len(found.closest.plans) == 1
    assert found.closest.memory.total[0] > found.closest.capacity
    assert not fits(HOPELESS[name])


def again(asked: Job, **fields: object) -> Job:
    """The job as one would ask for it anew."""
    stated = {
        "seq": asked.sequence,
        "global_batch": asked.global_batch[0],
        "stack": asked.stack.name,
        "gpus": asked.devices,
    }
    return job(asked.model.name, asked.cluster.name, **(stated | fields))  # type: ignore[arg-type]


@each_hopeless
def test_as_many_devices_as_advised_are_enough(name: str) -> None:
    """And half as many are not."""
    found, hints = hopeless(name)
    counts = [int(hint.split()[0]) for hint in hints if hint.endswith(" devices")]
    assert len(counts) == (0 if name == "never" else 1)
    for count in counts:
        assert search(again(found.job, gpus=count), 1).fits > 0
        assert search(again(found.job, gpus=count // 2), 1).fits == 0


@each_hopeless
def test_a_sequence_as_short_as_advised_fits(name: str) -> None:
    found, hints = hopeless(name)
    lengths = [int(hint.split()[3]) for hint in hints if hint.startswith("a sequence of ")]
    assert bool(lengths) == (name == "activations")
    for length in lengths:
        assert search(again(found.job, seq=length), 1).fits > 0
        assert search(again(found.job, seq=2 * length), 1).fits == 0


@each_hopeless
def test_advised_devices_have_the_memory(name: str) -> None:
    found, hints = hopeless(name)
    need = found.closest.memory.total[0]
    title = [hint.partition("memory as ")[2] for hint in hints if "memory as" in hint]
    enough = [d.memory.value for d in map(load.device, names(load.DEVICES)) if d.memory.value >= need]
    assert bool(title) == bool(enough)
    for each in title:
        assert next(d for d in map(load.device, names(load.DEVICES)) if d.title == each).memory.value == min(enough)


def test_nothing_legal_is_an_answer() -> None:
    """127 divides neither heads nor layers nor the batch: no plan, no crash, and the reason counted."""
    found = search(job("llama-3-8b", gpus=8 * 127, global_batch=1), 5)
    assert found.tally.legal == found.fits == len(found.closest.plans) == 0
    assert found.tally.rejected["the batch divides"] > 0
