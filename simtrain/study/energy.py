"""A plan's energy: its frontier, the clocks to run at, and what they save."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.estimate import machine
from simtrain.estimate.replayed import replayed
from simtrain.price.power_law import blocking_power, power_law
from simtrain.price.power_profile import PowerProfile, matching
from simtrain.search.clocks import coarse, curves, staged, tradeoff, with_switches
from simtrain.search.frontier import Frontier, frontier
from simtrain.search.rounding import SLACK, Point, Rounder, spent
from simtrain.search.tradeoff import Tradeoff
from simtrain.spec.base import Evidence
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan

Array = NDArray[np.float64]
MOST_PASSES: Final = 4096
"""Passes up to which each gets a clock of its own; larger steps get a clock a group."""
TRIES: Final = 8
"""Deadlines solved until late clocks keep the one given."""
SWITCH: Final = 10e-3
"""Seconds until a new clock is there: assumed, no measurement was found."""


@dataclass(frozen=True)
class Setting:
    """Clocks chosen for a step, and what they come to. Joules of all devices of the job."""

    point: Point
    on: Tradeoff
    seconds: float
    """With late clocks."""
    joules: float
    switches: int
    """Changes of clock in a step, of all stages of one replica."""
    gap: float
    """Joules over the bound of the linear programme at the same length, relative, before late clocks."""
    late: float
    """Seconds beyond the deadline, where no clocks were found that keep it although they come late."""
    lengths: Array
    """Seconds of every operation, with late clocks, shape (operations,)."""


@dataclass(frozen=True)
class EnergyPlan:
    """The answer for one plan."""

    job: Job
    plan: Plan
    profile: PowerProfile | None
    deadline: float
    """Seconds a step may take."""
    waits: bool
    """Whether it takes them whatever the clocks: another replica does."""
    devices: int
    """A stage has, in all replicas."""
    base: Point
    """Every pass at the largest clock."""
    fine: Frontier
    """A clock a pass, or a group where passes are too many."""
    grouped: Frontier
    """A clock for a stage, phase and part of the step."""
    chosen: Setting
    few: Setting
    """Of `grouped`, within the same deadline."""
    stretch: Setting
    """A clock for a stage and part of the step, forward or backward, within the same deadline: few changes."""
    steady: Setting
    """One clock a stage, that never changes, within the same deadline."""

    @property
    def grounds(self) -> "Grounds":
        """What its joules rest on."""
        return power_grounds(self.job, self.profile)

    def whole(self, seconds: float, joules: float) -> tuple[float, float]:
        """Seconds and joules, of all devices, of a step that ends after `seconds`, with the wait for a straggler."""
        if not self.waits:
            return seconds, joules
        left = max(self.deadline - seconds, 0.0)
        return seconds + left, joules + self.devices * self.fine.tradeoff.standing * left

    def saved(self, setting: Setting) -> float:
        """Share of the energy of largest clocks saved where both wait until the deadline (Perseus, table 4)."""
        until = max(self.deadline, self.base.seconds)
        before = self.devices * (self.base.joules + setting.on.standing * (until - self.base.seconds))
        after = setting.joules + self.devices * setting.on.standing * max(until - setting.seconds, 0.0)
        return 1 - after / before


@dataclass(frozen=True)
class Grounds:
    """What joules rest on."""

    power: str
    """The profile's name, or `law`."""
    evidence: Evidence
    off: float | None
    """Share by which nine of ten measured points differ from the law; None of a profile."""


def power_grounds(job: Job, profile: PowerProfile | None) -> Grounds:
    """Of a job's passes by this profile; None: by the law of its device."""
    if profile is not None:
        evidence = Evidence.MEASURED_HERE if profile.measured is None else profile.measured.evidence
        return Grounds(profile.name, evidence, None)
    law = power_law(job.cluster.device)
    return Grounds("law", law.evidence, law.off)


def energy_plan(
    job: Job,
    plan: Plan,
    profile: PowerProfile | None = None,
    deadline: float | None = None,
    cap: float | None = None,
    switch: float = SWITCH,
    straggler: float | None = None,
) -> EnergyPlan:
    """Find the frontier and the clocks of least energy within `deadline` s (None: no slower than largest clocks).

    No clocks make a step longer than that of least energy (T* in arXiv 2312.06902): the same length for every grain.
    `straggler`: instead of a deadline, another replica takes so many times the step of largest clocks (T' / T there),
    and this one waits for it at waiting power: clocks may then be lower than those of T*.
    `cap`: W a device may draw. WrongInput where the deadline is before the fastest step, the cap is not above waiting
    power, or the schedule never flushes.
    """
    if plan.schedule == "no-flush":
        rule = "has steps that never end: no step's energy is told apart"
        raise WrongInput([Problem("schedule", plan.schedule, rule, "plan it with 1f1b")])
    found = profile or own_profile(job, plan)
    fine = laid(job, plan, found, cap)
    groups, stretches, stages = coarse(fine), staged(fine, parts=True), staged(fine)
    base = at_largest(fine)
    if deadline is not None and deadline < base.seconds:
        rule = f"is before the fastest step, {base.seconds:.6g} s"
        raise WrongInput([Problem("--deadline", f"{deadline:g} s", rule, "give more time, or plan another layout")])
    if straggler is not None:
        deadline = straggler * base.seconds
    until = base.seconds if deadline is None else deadline
    by_group = frontier(groups, besides=(until,))
    free = frontier(fine, besides=(until,)) if len(fine.of_group) <= MOST_PASSES else by_group
    devices = job.devices // fine.graph.ranks
    waits = straggler is not None
    longest = min(until, fine.duration(fine.seconds(fine.thriftiest)) if waits else free.thriftiest.seconds)
    grains = (
        (free.tradeoff, partial(free.within, waits=waits)),
        (groups, partial(by_group.within, waits=waits)),
        (stretches, partial(_steady, stretches, free.deadline, waits)),
        (stages, partial(_steady, stages, free.deadline, waits)),
    )
    return EnergyPlan(
        job,
        plan,
        found,
        until,
        waits,
        devices,
        base,
        free,
        by_group,
        *(_setting(on, within, longest, until, free, devices, switch) for on, within in grains),
    )


def own_profile(job: Job, plan: Plan) -> PowerProfile | None:
    """The measured profile of this model on this device in so many stages, where there is one."""
    return matching(job.model.name, job.cluster.device.name, plan.pp) if plan.vpp == 1 else None


def laid(job: Job, plan: Plan, profile: PowerProfile | None, cap: float | None = None) -> Tradeoff:
    """A plan's step as a trade-off with a clock for every pass, its curves from the `profile`, else the law."""
    device = job.cluster.device
    step = replayed(job, plan, machine(job)).step
    measured = None if profile is None else profile.measured
    waiting = blocking_power(device) if measured is None else measured.blocking_power.value
    if cap is not None and cap <= waiting:
        rule = f"is not above the {waiting:.0f} W a device draws while it waits"
        raise WrongInput([Problem("--power-cap", f"{cap:g} W", rule, f"its limit is {device.power_limit.value:.0f} W")])
    curve_of = curves(device, step.costs, profile, waiting, cap)
    return tradeoff(step.graph, step.costs, curve_of, waiting, job.power_beside)


def at_largest(fine: Tradeoff) -> Point:
    """The step with every pass at the largest clock that is worth it."""
    seconds = fine.duration(fine.seconds(fine.fastest))
    return Point(seconds, seconds, fine.joules(fine.fastest, seconds), fine.fastest)


def device_cap(job: Job, device: float | None, node: float | None) -> float | None:
    """W a device may draw under a limit of its own and one of its node, of which hosts take theirs and devices the rest
    in equal shares. WrongInput where hosts leave nothing."""
    if node is None:
        return device
    left = node - job.cluster.node.host_power
    if left <= 0:
        rule = "leaves nothing to the devices beside their host"
        raise WrongInput([Problem("--node-power-cap", f"{node:g} W", rule, "give more")])
    share = left / job.cluster.node.devices
    return share if device is None else min(device, share)


def _steady(stages: Tradeoff, deadlines: Array, waits: bool, within: float) -> Point:
    """The point of least energy of a clock a stage that meets a deadline, of those tried."""
    rounder, fastest = Rounder(stages), np.zeros(len(stages.of_group))
    tried = (rounder.point(at, fastest) for at in [*deadlines[deadlines < within].tolist(), within])
    return min(tried, key=lambda point: spent(point, stages.standing, within if waits else None))


def _setting(
    on: Tradeoff,
    within: Callable[[float], Point],
    longest: float,
    until: float,
    bound: Frontier,
    devices: int,
    switch: float,
) -> Setting:
    """Clocks of a step no longer than `longest` that ends by `until` with late clocks; else the least late found."""
    first, goal = on.duration(on.seconds(on.fastest)), longest
    found: list[Setting] = []
    for _ in range(TRIES):
        point = within(goal)
        step = with_switches(on, point.choice, switch)
        seconds = on.duration(step.seconds)
        late = max(seconds - until * (1 + SLACK), 0.0)
        joules = step.joules + on.standing * seconds
        found.append(Setting(point, on, seconds, devices * joules, step.changes, bound.gap(point), late, step.seconds))
        if late == 0 or goal <= first:
            break
        goal = max(goal - late, first)
    return min(found, key=lambda setting: setting.late)
