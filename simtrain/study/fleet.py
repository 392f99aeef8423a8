"""How many devices: the options of an aim over several sizes of a cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from simtrain.estimate import machine
from simtrain.search.quickest import quickest
from simtrain.search.rounding import Point
from simtrain.search.thrifty import joules
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.study.bill import Rates, bill, rates
from simtrain.study.objective import Aim, Option, Weighed, best, chosen, front, options
from simtrain.study.run import steps
from simtrain.study.sweep import swept

EACH: Final = 3
"""Plans of a size that are looked at."""
MOST: Final = 12
"""Plans weighed at lowered clocks too."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fleet:
    """Every size's own best, and the best of all at clocks that suit the aim."""

    sizes: list[Option]
    """The best of every size by the aim, at largest clocks, energy by closed forms; by devices."""
    weighed: Weighed

    def best(self, jobs: Sequence[Job]) -> Job:
        """The job of the best size; the largest where no option keeps to the limits."""
        ranked = self.weighed.ranked
        return next((job for job in jobs if ranked and job.devices == ranked[0].devices), jobs[-1])


def first_look(job: Job) -> dict[str, Any]:
    """The fastest plans of a job, their replayed seconds and joules by closed forms, as plain data."""
    found, _ = quickest(job, EACH)
    on = machine(job)
    return {
        "plans": [found.plan(row).model_dump(mode="json") for row in range(len(found.plans))],
        "seconds": found.step_time.tolist(),
        "joules": joules(job, found, on).tolist() if len(found.plans) else [],
    }


def fleet(jobs: Sequence[Job], aim: Aim, progress: Progress | None = None, processes: int | None = None) -> Fleet:
    """The same job on each number of devices: first looks at all, then the clocks of the promising.

    Promising: within the deadline, and best by the aim or on the front of time, money, energy and carbon.
    """
    looks = swept(jobs, first_look, progress=progress, processes=processes)
    found = [option for job, look in zip(jobs, looks, strict=True) for option in _seen(job, look, aim)]
    deadline = aim.limits.seconds
    kept = [option for option in found if deadline is None or option.seconds <= deadline]
    few = list({(o.devices, o.plan): o for o in (*best(kept, aim.objective)[:MOST], *_thinned(front(kept)))}.values())
    sized = {job.devices: job for job in jobs}
    exact = [
        option
        for devices, job in sized.items()
        for option in options(job, [o.plan for o in few if o.devices == devices], _rates(job, aim))
    ]
    by_size: dict[int, Option] = {}
    for option in best(kept, aim.objective):
        by_size.setdefault(option.devices, option)
    weighed = chosen(jobs[0], aim, exact or found, _rates(jobs[0], aim))
    return Fleet([by_size[devices] for devices in sorted(by_size)], weighed)


def _rates(job: Job, aim: Aim) -> Rates:
    return rates(job, None, aim.grid, aim.tariff, None)


def _seen(job: Job, look: dict[str, Any], aim: Aim) -> list[Option]:
    found = []
    for row, seconds, energy in zip(look["plans"], look["seconds"], look["joules"], strict=True):
        plan = Plan.model_validate(row)
        count = steps(job, plan.global_batch)
        of = bill(_rates(job, aim), job.devices, count * seconds, count * energy)
        point = Point(seconds, seconds, energy, np.zeros(0, dtype=np.int64))
        found.append(Option(plan, job.devices, point, count * seconds, of, of.joules / (count * seconds)))
    return found


def _thinned(found: list[Option]) -> list[Option]:
    """Some of a front, evenly."""
    return [found[at] for at in np.unique(np.linspace(0, len(found) - 1, MOST).astype(int))] if found else []
