"""One plan's step replayed: its schedule drawn up, its costs laid over the stages, run event by event."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate.laid import Laid
from simtrain.estimate.passes import priced, stage_passes
from simtrain.price.blocks import CATEGORIES, LAUNCH, Machine
from simtrain.price.step import hop_seconds, sync_time
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.schedule import SCHEDULES
from simtrain.timeline.footprint import Footprint, footprint
from simtrain.timeline.memory import holdings, waiting_share
from simtrain.timeline.order import Order
from simtrain.timeline.schedules.drawn import drawn
from simtrain.timeline.step import Step, step

Array = NDArray[np.float64]
LAYERS: Final = ("dense", "moe")


@dataclass(frozen=True)
class Replayed:
    """A plan's step, and the memory it takes over time."""

    step: Step
    footprint: Footprint
    categories: tuple[str, ...] = CATEGORIES
    """Of the seconds of passes."""


def replayed(job: Job, plan: Plan, on: Machine, order: Order | None = None, slowdown: Array | None = None) -> Replayed:
    """Replay one plan; `order`: instead of its schedule's, `slowdown`: see timeline.build.

    Raises WrongInput where the order never ends.
    """
    return next(replays(job, PlanTable.of([plan]), on, order, slowdown))


def replays(
    job: Job, plans: PlanTable, on: Machine, order: Order | None = None, slowdown: Array | None = None
) -> Iterator[Replayed]:
    """Replay plans one by one; they are priced together."""
    described, times = priced(job, plans, on)
    sync = sync_time(job, on, described.stages)
    blocks = tuple(
        stage_passes(described, times, sync.accumulation, total=False, split=True, blocks=names)
        for names in (LAYERS, ("embedding",), ("head",))
    )
    blocks[0].forward[LAUNCH] += job.stack.microbatch_overhead.value
    messages = hop_seconds(on, described)
    waiting, held = waiting_share(described), holdings(described)
    for row in range(len(plans)):
        laid = Laid(job, described, on, row)
        costs = laid.costs(blocks, sync, messages)
        drawn_up = order
        if drawn_up is None:
            stages, chunks = laid.place.shape
            pace = laid.pace(costs, float(waiting[row]))
            drawn_up = drawn(SCHEDULES[plans.schedule[row]], stages, chunks, int(plans.microbatches[row]), pace)
        found = step(drawn_up, costs, slowdown)
        yield Replayed(found, footprint(drawn_up, laid.held(held, float(waiting[row]))))
