"""Why a plan is as fast as it is: what binds it, what more of each resource would be worth, what the answer rests on.

Everything is found by estimating again: the same plan, and the best plans of the job, on a changed machine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from simtrain.estimate import Detail, Estimate, machine
from simtrain.estimate.replayed import exact
from simtrain.price.blocks import Machine
from simtrain.search.search import Progress, search
from simtrain.spec.job import Job
from simtrain.spec.memory_policy import Action
from simtrain.spec.plan import Plan, PlanTable
from simtrain.study.alternative import Alternative, alternative
from simtrain.study.grounds import Grounds, grounds

GIB: Final = 2.0**30
MORE_NETWORK: Final = 100e9 / 8
"""Bytes a second: 100 Gb/s."""
UNLIMITED: Final = 2.0**60
"""Bytes of a device that holds anything."""
MESHES: Final = 6
"""Best meshes that are looked at again on a changed machine."""
TELLABLE: Final = 0.005
"""Share of a step below which a gain is not told from none."""


@dataclass(frozen=True)
class Best:
    """The fastest plan under some limit, with the memory search keeps free."""

    plan: Plan
    step_time: float
    """Seconds."""
    memory: float
    """Bytes of the fullest device."""


@dataclass(frozen=True)
class Worth:
    """What one change of the machine would save."""

    change: str
    plan_gain: float
    """Seconds a step of this very plan."""
    best: Best | None
    """The best plan then; None where none fits."""
    best_gain: float
    """Seconds a step, from the best plan now to the best plan then."""


@dataclass(frozen=True)
class Explanation:
    """All there is to say about one plan."""

    job: Job
    """With the plan's global batch alone."""
    plan: Plan
    estimate: Estimate
    """Of the plan, one row."""
    detail: Detail
    best: Best | None
    """The best plan that fits; None where none does."""
    unlimited: Best
    """The best plan if memory had no end."""
    worths: tuple[Worth, ...]
    grounds: Grounds
    """What the prediction and its interval rest on."""
    alternative: Alternative | None
    """Why not the one that was named."""
    allowed: tuple[Action, ...] = ()
    """What memory plans of the best plans may do with activations; none: they have no memory plans."""

    @property
    def memory_binds(self) -> bool:
        """Whether the best plan would be another, faster one, if memory had no end."""
        return self.best is None or self.unlimited.step_time < (1 - TELLABLE) * self.best.step_time


def explain(
    job: Job,
    plan: Plan,
    why_not: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    allowed: Sequence[Action] = (),
) -> Explanation:
    """Explain a legal plan of a job; three searches of the job's space, of which `progress(done, all)` counts blocks.

    `why_not`: options of a layout as on the command line, {"tp": "8", "pp": "4"}; the best plan that has them is
    compared. WrongInput where they are not known or cannot be read. `allowed`: what memory plans of the best plans may
    do with activations; none are made for others than `plan` where it is empty.
    """
    job = job.model_copy(update={"global_batch": (plan.global_batch,)})
    compared = None if why_not is None else alternative(job, plan, why_not)
    on = machine(job)
    larger, endless = with_memory(job, GIB), with_memory(job, UNLIMITED)
    asked: tuple[tuple[Job, Sequence[Action]], ...] = ((job, allowed), (larger, allowed), (endless, ()))
    leading = dict.fromkeys(each for question in asked for each in _leading(*question, progress))
    plans = [*leading, plan]
    mine = np.array([len(leading)])
    known, memory = PlanTable.of(plans), [each.memory for each in plans]
    now, made = exact(job, known, on, memory=memory)
    best = _best(now)
    unlimited = _best(replace(now, capacity=UNLIMITED))
    assert unlimited is not None, "a plan was given"
    return Explanation(
        job=job,
        plan=plan,
        estimate=now.take(mine),
        detail=made.take(mine),
        best=best,
        unlimited=unlimited,
        worths=tuple(
            _worth(name, exact(*changed, memory=memory)[0], now, mine, best)
            for name, changed in _changes(job, known, on)
        ),
        grounds=grounds(job, plan, on),
        alternative=compared,
        allowed=tuple(allowed),
    )


def with_memory(job: Job, more: float) -> Job:
    """The job on devices with so many bytes more."""
    memory = job.cluster.device.memory
    return _with_device(job, memory=memory.model_copy(update={"value": memory.value + more}))


def _with_device(job: Job, **fields: Any) -> Job:
    device = job.cluster.device.model_copy(update=fields)
    return job.model_copy(update={"cluster": job.cluster.model_copy(update={"device": device})})


def _with_network(job: Job) -> Job:
    """Every device's share of the adapters larger by MORE_NETWORK."""
    node = job.cluster.node
    rate = node.nic.bandwidth.value + MORE_NETWORK * node.devices / node.nic.count
    nic = node.nic.model_copy(update={"bandwidth": node.nic.bandwidth.model_copy(update={"value": rate})})
    cluster = job.cluster.model_copy(update={"node": node.model_copy(update={"nic": nic})})
    return job.model_copy(update={"cluster": cluster})


def _changes(job: Job, plans: PlanTable, on: Machine) -> Iterator[tuple[str, tuple[Job, PlanTable, Machine]]]:
    """Each change with what estimates the plans under it."""
    matmul = on.rates.matmul.model_copy(update={"value": 1.1 * on.rates.matmul.value})
    faster = replace(on, rates=on.rates.model_copy(update={"matmul": matmul}))
    quicker = replace(on, network=replace(on.network, latency=0.5 * on.network.latency))
    wider = _with_network(job)
    yield "1 GiB more memory a device", (with_memory(job, GIB), plans, on)
    yield "100 Gb/s more network a device", (wider, plans, machine(wider))
    yield "matrix multiplies 10 % faster", (job, plans, faster)
    yield "half the latency of every message", (job, plans, quicker)


def _worth(change: str, then: Estimate, now: Estimate, mine: np.ndarray, best: Best | None) -> Worth:
    found = _best(then)
    saved = float(now.step_time[mine][0] - then.step_time[mine][0])
    return Worth(change, saved, found, best.step_time - found.step_time if best and found else 0.0)


def _leading(job: Job, allowed: Sequence[Action], progress: Progress | None) -> list[Plan]:
    """The best plans of a job, and those no other beats in time and memory."""
    result = search(job, MESHES, progress, allowed)
    return [found.plan(row) for found in (result.best, result.pareto) for row in range(len(found.plans))]


def _best(evaluated: Estimate) -> Best | None:
    """The fastest that fits with headroom, or at all where none has any."""
    good = np.flatnonzero(evaluated.roomy if evaluated.roomy.any() else evaluated.fits)
    if not len(good):
        return None
    row = int(good[evaluated.step_time[good].argmin()])
    return Best(evaluated.plan(row), float(evaluated.step_time[row]), float(evaluated.memory.total[row]))
