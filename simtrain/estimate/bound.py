"""How fast plans can be at best: what their passes take when nothing else does."""

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.passes import priced, stage_passes
from simtrain.price.blocks import Machine
from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable


def bound(job: Job, plans: PlanTable, on: Machine) -> NDArray[np.float64]:
    """Seconds that no step of these plans is shorter than, shape (plans,): passes alone, in the mean over stages.

    It reads mesh, batches and recomputation only: schedules, sharding and offloading add to it.
    """
    described, times = priced(job, plans, on)
    spread, layout = described.stages.spread.index, described.stages.layout
    found = stage_passes(described, times, np.zeros(layout.layers.shape), total=True, split=False)
    stages = (layout.count[:, spread] * (found.forward[0] + found.backward[0])).sum(axis=0)
    scale = 1.0 if job.own is None else job.own.factor.value
    return np.asarray(plans.microbatches * stages / plans.pp * scale)
