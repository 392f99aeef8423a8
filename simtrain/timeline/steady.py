"""A step of a pipeline that never drains (arXiv 2003.11666): the time between two steps of a long run."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.costs import ALONE, Costs
from simtrain.timeline.graph import COMPUTE
from simtrain.timeline.schedules import no_flush
from simtrain.timeline.step import BESIDES, BUBBLE, GATHERING, REDUCING, SENDING, UPDATING, Step, step

Array = NDArray[np.float64]


def steady(stages: int, microbatches: int, costs: Costs, slowdown: Array | None = None) -> Step:
    """Replay steps on either side of one, as many as the pipeline is deep, and keep the one in the middle.

    Once a step each stage also updates, and reduces its gradients and gathers unless every pass does; of that `hidden`
    hides. `slowdown`: see build, of one replica.
    """
    assert slowdown is None or len(slowdown) == 1
    around = -(-stages // microbatches)
    order = no_flush.order(stages, 1, (2 * around + 1) * microbatches)
    kept = [t if t.every else replace(t, seconds=0.0 * t.seconds) for t in (costs.gather, costs.reduction)]
    passes = replace(costs, gather=kept[0], reduction=kept[1], update=np.zeros(stages), tied=0.0, overhead=0.0)
    run = step(order, passes, slowdown)
    begins = run.graph.first[COMPUTE * stages : (COMPUTE + 1) * stages] + 2 * microbatches * around
    period = run.times.start[begins + 2 * microbatches] - run.times.start[begins]
    alone = np.zeros((len(ALONE), stages))
    for term, traffic in ((REDUCING, costs.reduction), (GATHERING, costs.gather)):
        if not traffic.every:
            alone[term] = (1 - traffic.hidden) * traffic.seconds.sum(axis=1)
    alone[UPDATING], alone[BESIDES] = costs.update, costs.overhead
    seconds = float((period + alone.sum(axis=0)).max())
    share = 1 / (2 * around + 1)
    busy, ran = share * run.terms[: -len(ALONE)], share * run.terms[-len(ALONE) :]
    for term in (REDUCING, GATHERING):
        alone[term] += ran[term]
    alone[SENDING] = share * np.array([run.graph.blocked[run.graph.stream(COMPUTE, s)].sum() for s in range(stages)])
    alone[BUBBLE] = seconds - busy.sum(axis=0) - alone.sum(axis=0)
    return replace(run, costs=costs, seconds=seconds, terms=np.concatenate([busy, alone]))
