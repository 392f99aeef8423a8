"""The energy of a plan's step at the largest clocks, and its interval."""

from dataclasses import dataclass
from math import hypot

from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.study.energy import Grounds, laid, own_profile, power_grounds


@dataclass(frozen=True)
class StepEnergy:
    """Joules of all devices of a job and their hosts, without what the site takes beside."""

    joules: float
    low: float
    high: float
    grounds: Grounds


def step_energy(job: Job, plan: Plan, seconds: float, low: float, high: float) -> StepEnergy:
    """Of a step of `seconds`, between `low` and `high`.

    The interval joins that of the length, at the same mean power, and how far the law of power may be off, as errors
    that know nothing of each other: relative ones add in squares. A measured profile counts as exact.
    """
    profile = own_profile(job, plan)
    fine, grounds = laid(job, plan, profile), power_grounds(job, profile)
    joules = job.devices // fine.graph.ranks * fine.joules(fine.fastest, seconds)
    off = grounds.off or 0.0
    below, above = (min(hypot(end / seconds - 1, off), most) for end, most in ((low, 1.0), (high, float("inf"))))
    return StepEnergy(joules, joules * (1 - below), joules * (1 + above), grounds)
