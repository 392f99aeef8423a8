"""Which layout, at which clocks, is best by time, money, energy or carbon, within limits on each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from simtrain.estimate import machine
from simtrain.estimate.replayed import predicted
from simtrain.search.clocks import staged, steady
from simtrain.search.rounding import Point, Rounder
from simtrain.search.search import Search
from simtrain.search.thrifty import thrifty
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.study.bill import Bill, Rates, bill, rates
from simtrain.study.energy import Grounds, at_largest, laid, power_grounds
from simtrain.study.run import steps

DEPTHS: Final = 10
THRIFTY: Final = 5
"""Plans of least energy looked at besides."""
OBJECTIVES: Final = ("time", "cost", "energy", "carbon")


@dataclass(frozen=True)
class Limits:
    """What a run must keep to; None: no limit."""

    seconds: float | None = None
    money: float | None = None
    """USD."""
    power: float | None = None
    """W of the site, in the mean over a step."""


@dataclass(frozen=True)
class Option:
    """A layout at clocks of its frontier; of a run where the job states tokens, else of a step."""

    plan: Plan
    devices: int
    point: Point
    seconds: float
    bill: Bill
    power: float
    """W of the site, in the mean."""
    clocks: tuple[float, ...] = ()
    """Hz of each stage; empty where every pass runs at the largest clock."""

    def value(self, objective: str) -> float:
        """What is to be small; money that nobody states is none."""
        return {
            "time": self.seconds,
            "cost": self.bill.money or 0.0,
            "energy": self.bill.joules,
            "carbon": self.bill.carbon + self.bill.embodied,
        }[objective]

    def keeps(self, limits: Limits) -> bool:
        """Whether it keeps to all limits."""
        return (
            (limits.seconds is None or self.seconds <= limits.seconds)
            and (limits.money is None or self.value("cost") <= limits.money)
            and (limits.power is None or self.power <= limits.power)
        )


@dataclass(frozen=True)
class Aim:
    """An objective, limits, and what the site asks for."""

    objective: str
    limits: Limits
    grid: float | None
    """kg CO2e a joule; None: the cluster's."""
    tariff: float | None
    """USD a joule; None: the price of devices covers it."""


@dataclass(frozen=True)
class Weighed:
    """Options by an aim. Joules of all rest on the law: a profile of some would put them apart from the others."""

    aim: Aim
    per_run: bool
    """Of a run, not a step."""
    site: Rates
    law: Grounds
    ranked: list[Option]
    """The best of every plan, of those that keep to the limits, the best first."""
    front: list[Option]
    least: Limits
    """The least of each of the options there were, kept to the limits or not."""


def weighed(result: Search, aim: Aim, progress: Callable[[int, int], None] | None = None) -> Weighed:
    """The plans of a search, those ranked and those on its front, at clocks that suit the aim.

    Where energy counts those of least energy are looked for too, the fastest or not.
    """
    job = result.job
    plans = [table.plan(row) for table in (result.best, result.pareto) for row in range(len(table.plans))]
    if aim.objective in ("energy", "carbon") or aim.tariff is not None or aim.limits.power is not None:
        cool = thrifty(job, THRIFTY)
        plans += [cool.plan(row) for row in range(len(cool))]
    plans = list(dict.fromkeys(plans))
    asked = rates(job, None, aim.grid, aim.tariff, None)
    return chosen(job, aim, options(job, plans, asked, progress), asked)


def chosen(job: Job, aim: Aim, found: Sequence[Option], asked: Rates) -> Weighed:
    """The options that keep to the limits, by the aim."""
    kept = [option for option in found if option.keeps(aim.limits)]
    least = Limits(
        min((option.seconds for option in found), default=None),
        min((option.value("cost") for option in found), default=None),
        min((option.power for option in found), default=None),
    )
    law = power_grounds(job, None)
    return Weighed(aim, job.tokens is not None, asked, law, best(kept, aim.objective), front(kept), least)


def shown(result: Search, found: Weighed, most: int) -> Search:
    """The search with the `most` plans that are best by the aim behind those that are ranked by time."""
    job = result.job
    plans = [result.best.plan(row) for row in range(len(result.best.plans))]
    plans += [option.plan for option in found.ranked if option.devices == job.devices][:most]
    best, detail = predicted(job, list(dict.fromkeys(plans)), machine(job))
    return replace(result, best=best, detail=detail)


def options(
    job: Job, plans: Sequence[Plan], asked: Rates, progress: Callable[[int, int], None] | None = None
) -> list[Option]:
    """Every plan at the largest clocks, and slower with a clock a stage, DEPTHS ways."""
    found = []
    for done, plan in enumerate(plans, start=1):
        fine = laid(job, plan, None)
        base, stages = at_largest(fine), staged(fine)
        last = fine.duration(fine.seconds(fine.thriftiest))
        rounder, fastest = Rounder(stages), np.zeros(len(stages.of_group))
        slower = [rounder.point(at, fastest) for at in np.linspace(base.seconds, last, DEPTHS + 1)[1:].tolist()]
        count = steps(job, plan.global_batch)
        for point in (base, *slower):
            seconds, joules = count * point.seconds, count * (job.devices // fine.graph.ranks) * point.joules
            of = bill(asked, job.devices, seconds, joules)
            clocks = () if point is base else steady(stages, point.choice)
            found.append(Option(plan, job.devices, point, seconds, of, of.joules / seconds, clocks))
        if progress is not None:
            progress(done, len(plans))
    return found


def best(found: Sequence[Option], objective: str) -> list[Option]:
    """The best option of every layout, the best first."""
    kept: dict[tuple[int, Plan], Option] = {}
    for option in sorted(found, key=lambda o: (o.value(objective), o.seconds)):
        kept.setdefault((option.devices, option.plan), option)
    return list(kept.values())


def front(found: Sequence[Option]) -> list[Option]:
    """Options no other beats in time, money, energy and carbon at once, fastest first."""
    kept: list[Option] = []
    for option in sorted(found, key=lambda o: tuple(o.value(name) for name in OBJECTIVES)):
        if not any(all(other.value(name) <= option.value(name) for name in OBJECTIVES) for other in kept):
            kept.append(option)
    return kept
