"""Why not another layout: illegal, too big, slower, or faster after all."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.estimate import TERMS, Estimate, estimate, machine
from simtrain.estimate.replayed import exact, predicted
from simtrain.price.blocks import Machine
from simtrain.search.layout import CHOICES, COLUMN_OF, Layout
from simtrain.search.refine import neighbours
from simtrain.search.space import Space, legal
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.memory import CLASSES

Verdict = Literal["illegal", "too big", "slower", "faster", "the same"]
KEPT: Final = 16
"""Fastest plans of a block that are looked at again."""
FINE: Final = ("micro_batch", "full_layers", "shard_group")
"""Columns of which the space holds some values only."""
YES: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Alternative:
    """The best plan that has what was named, against the plan it was named against."""

    asked: dict[str, str]
    verdict: Verdict
    plan: Plan | None = None
    """None: no legal plan has it."""
    step_time: float = 0.0
    """Seconds."""
    terms: dict[str, float] | None = None
    """Seconds a step spends more in each term than the plan it is compared with."""
    memory: float = 0.0
    """Bytes of the fullest device."""
    missing: float = 0.0
    """Bytes that the device lacks, or the host, or its drives."""
    classes: dict[str, float] | None = None
    """Bytes of memory by class."""
    problems: tuple[Problem, ...] = ()
    """What makes it illegal."""


def alternative(job: Job, plan: Plan, asked: Mapping[str, str]) -> Alternative:
    """Compare `plan` with the best plan of the job that has the options `asked` (names and values as text).

    Options not named are free, so that nothing loses by a careless choice of the rest. Where no such plan is legal, the
    rules say so of the one whose rest is taken from `plan`. WrongInput: an option that is not known, or not readable.
    """
    named = columns(asked)
    on = machine(job)
    found = _holding(job, named, on)
    if not len(found):
        found = _beside_the_space(job, named, on)
    if not len(found):
        try:
            found = PlanTable.of([_like(plan, asked).plan(job)])
        except WrongInput as wrong:
            return Alternative(dict(asked), "illegal", problems=wrong.problems)
    return _compared(job, plan, found, dict(asked), on)


def _compared(job: Job, plan: Plan, found: PlanTable, asked: dict[str, str], on: Machine) -> Alternative:
    evaluated, made = exact(job, found, on)
    good = evaluated.roomy if evaluated.roomy.any() else evaluated.fits
    rows = np.flatnonzero(good)
    fastest = rows[evaluated.step_time[rows].argsort()]
    row = int(next(iter(fastest), evaluated.memory.total.argmin()))
    best, step_time = found.plan(row), float(evaluated.step_time[row])
    own, own_made = predicted(job, [plan], on)
    missing = _missing(evaluated, row)
    verdict: Verdict = "too big"
    if not missing:
        verdict = "the same" if best == plan else "slower" if step_time >= float(own.step_time[0]) else "faster"
    return Alternative(
        asked=asked,
        verdict=verdict,
        plan=best,
        step_time=step_time,
        terms=dict(zip(TERMS, (made.terms[:, row] - own_made.terms[:, 0]).tolist(), strict=True)),
        memory=float(evaluated.memory.total[row]),
        missing=missing,
        classes=dict(zip(CLASSES, evaluated.memory.classes[:, row].tolist(), strict=True)),
    )


def _missing(evaluated: Estimate, row: int) -> float:
    lacking = evaluated.memory.total[row] - evaluated.capacity
    lacking_host = evaluated.memory.host[row] - evaluated.host_capacity
    lacking_drives = evaluated.memory.drives[row] - evaluated.drives_capacity
    return float(max(lacking, lacking_host, lacking_drives, 0.0))


def _holding(job: Job, named: dict[str, int], on: Machine) -> PlanTable:
    """Plans of the space with these columns: the fastest that fit and the one that needs least, and finer steps."""
    kept = PlanTable.of([])
    for block, _ in Space(job).blocks():
        plans = block.take(_has(block, named))
        if len(plans):
            kept = PlanTable.concatenate([kept, plans.take(_leading(estimate(job, plans, on)))])
    if not len(kept):
        return kept
    few = kept.take(_leading(estimate(job, kept, on)))
    around = PlanTable.concatenate([few, neighbours(job, few)])
    around = around.take(_has(around, named))
    return around.take(_leading(estimate(job, around, on)))


def _beside_the_space(job: Job, named: dict[str, int], on: Machine) -> PlanTable:
    """Legal plans with values between the steps of the space, set in those that have what else was named."""
    fine = {name: value for name, value in named.items() if name in FINE}
    near = _holding(job, {name: value for name, value in named.items() if name not in FINE}, on)
    changed = replace(near, **{name: np.full(len(near), value) for name, value in fine.items()})
    return changed.take(legal(job, changed)) if fine and len(near) else PlanTable.of([])


def _has(plans: PlanTable, named: dict[str, int]) -> NDArray[np.bool_]:
    held = np.ones(len(plans), dtype=bool)
    for name, value in named.items():
        held &= getattr(plans, name) == value
    return held


def _leading(evaluated: Estimate) -> NDArray[np.int64]:
    rows = np.flatnonzero(evaluated.roomy if evaluated.roomy.any() else evaluated.fits)
    fastest = rows[evaluated.step_time[rows].argsort()[:KEPT]]
    return np.unique(np.append(fastest, evaluated.memory.total.argmin()))


def columns(asked: Mapping[str, str]) -> dict[str, int]:
    """Columns of the options that were named; WrongInput with every one that is not known or not readable."""
    known = [field.name for field in fields(Layout)]
    problems = [
        Problem("--why-not", name, "is not an option of a layout", nearest(name, known))
        for name in asked
        if name not in known
    ]
    if "sp" in asked and asked["sp"] not in YES:
        problems.append(Problem("--why-not", f"sp={asked['sp']}", "is yes or no", "write sp=yes or sp=no"))
    readable = {name: text for name, text in asked.items() if name in known and name != "sp"}
    problems += [Problem(f"--why-not {p.where}", p.value, p.rule, p.hint) for p in _like(Plan(), readable).problems()]
    if problems:
        raise WrongInput(problems)
    numbers = {name: CHOICES[name].index(text) if name in CHOICES else int(text) for name, text in readable.items()}
    if "sp" in asked:
        numbers["sp"] = int(YES[asked["sp"]])
    return {COLUMN_OF.get(name, name): number for name, number in numbers.items()}


def _like(plan: Plan, asked: Mapping[str, str]) -> Layout:
    """The layout of a plan, with some options otherwise."""
    names = {field.name: COLUMN_OF.get(field.name, field.name) for field in fields(Layout)}
    own = {name: str(getattr(plan, column)) for name, column in names.items() if name not in ("sp", "shard_group")}
    regrouped = {"shard_group": None, "schedule": None if {"pp", "vpp"} & set(asked) else own["schedule"]}
    stated = own | regrouped | {name: text for name, text in asked.items() if name != "sp"}
    sp = YES[asked["sp"]] if "sp" in asked else plan.sp
    return Layout(sp=sp, **stated)  # type: ignore[arg-type]
