"""Plans of least energy rather than of least time: those that wait more and compute less, like what rebuilds nothing.

By closed forms, at the largest clocks: a device draws its limit in passes and waiting power otherwise.
"""

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate import Estimate, estimate, machine
from simtrain.estimate.bound import bound
from simtrain.price.blocks import Machine
from simtrain.price.power_law import blocking_power, working_power
from simtrain.search.search import ranked
from simtrain.search.space import Space
from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable

Array = NDArray[np.float64]


def joules(job: Job, found: Estimate, on: Machine) -> Array:
    """Of a step of all devices, their hosts and network, for the order of plans only: replays say more; shape (plans,).

    Messages inside passes count as passes.
    """
    device = job.cluster.device
    waiting = blocking_power(device)
    working = working_power(device)
    passes = np.minimum(bound(job, found.plans, on), found.step_time)
    return np.asarray(job.devices * ((waiting + job.power_beside) * found.step_time + (working - waiting) * passes))


def thrifty(job: Job, top: int) -> PlanTable:
    """The plan of least energy of each mesh, of those that fit with headroom, the `top` best first."""
    on, space = machine(job), Space(job)
    kept = PlanTable.of([])
    for plans, _ in space.blocks():
        together = PlanTable.concatenate([kept, plans])
        if not len(together):
            continue
        found = estimate(job, together, on)
        rows = np.flatnonzero(found.roomy)
        found = found.take(rows)
        pace = joules(job, found, on) / found.plans.global_batch
        kept = found.plans.take(ranked(found.plans, pace, found.step_time)[:top])
    return kept
