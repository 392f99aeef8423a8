"""What memory is worth on one layout: step time at every cap, and what binds at one of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from simtrain.estimate.replayed import replayed
from simtrain.price.blocks import Machine
from simtrain.search.memory import Allowed, Layout, Planned
from simtrain.search.packing import packed
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import TIERS, MemoryPlan, Tier
from simtrain.spec.plan import Plan
from simtrain.timeline.lifetimes import lifetimes
from simtrain.timeline.memory import CLASSES
from simtrain.timeline.order import BACKWARD, FORWARD, NONE, PHASES, Order

HALVINGS: Final = 10
"""Steps in which the least cap is closed in on."""
MOST_BLOCKS: Final = 4000
"""Blocks that are placed at most: several layers make one where a stage runs more passes."""
REPEATS: Final = 3
"""Times the chunks on the way, in microbatches, whose tensors are placed."""
LEFT: Final = 0.02
"""Share of a host's memory, or of its drives, below which they are full."""
GIB: Final = 2.0**30
GIGABYTE: Final = 1e9
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Worth:
    """What changes at one cap, in seconds a step gained; 0 where nothing is."""

    full: tuple[Tier, ...]
    """Tiers that what is off the devices leaves less than LEFT of what there was."""

    memory: float
    """By one GiB more."""
    link: float
    """By one GB/s more between each device and its host."""
    drives: float
    """By one GB/s more to and from the drives of each node."""


@dataclass(frozen=True)
class Front:
    """One layout over caps, most memory first; plans that another beats in both are left out."""

    points: tuple[Planned, ...]
    least: float
    """The smallest cap found feasible, bytes."""

    def at(self, cap: float) -> Planned | None:
        """The fastest within a cap."""
        fitting = [point for point in self.points if point.peak <= cap]
        return min(fitting, key=lambda point: point.step_time) if fitting else None


@dataclass(frozen=True)
class Peak:
    """When and where most memory is used."""

    stage: int
    phase: str
    microbatch: int
    live: float
    """Bytes of tensors alive at once on that stage, layer by layer, and of what stays."""
    packed: float
    """Bytes they take where every tensor has a place planned for its lifetime: no fragmentation."""


def least_cap(layout: Layout, allowed: Allowed) -> float | None:
    """The smallest cap that some plan keeps, to a thousandth of the range; None where even the largest has none."""
    high = layout.peak
    low = float(layout.base.footprint.resident.max())
    if layout.planned(high, allowed) is None:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = layout.planned(middle, allowed)
        low, high = (middle, high) if found is None else (low, min(middle, found.peak))
    return high


def front(layout: Layout, allowed: Allowed, points: int, progress: Progress | None = None) -> Front | None:
    """Plans at `points` caps from everything kept down to the least; None where no cap has a plan."""
    least = least_cap(layout, allowed)
    if least is None:
        return None
    found: list[Planned] = []
    for done, cap in enumerate(np.linspace(layout.peak, least, points).tolist(), start=1):
        one = layout.planned(cap, allowed)
        if one is not None:
            found.append(one)
        if progress is not None:
            progress(done, points)
    apart = {(one.peak, one.step_time): one for one in found}
    fastest = [
        one
        for place, one in apart.items()
        if not any(other[0] <= place[0] and other[1] <= place[1] and other != place for other in apart)
    ]
    return Front(tuple(fastest), least)


def worth(job: Job, plan: Plan, on: Machine, cap: float, allowed: Allowed) -> Worth | None:
    """What more memory, or a faster link, would gain at a cap; None where nothing fits in it."""
    layout = Layout(job, plan, on)
    here = layout.planned(cap, allowed)
    if here is None:
        return None
    roomier = layout.planned(cap + GIB, allowed)
    links, drives = (
        Layout(_faster(job, GIGABYTE, facts), plan, on).planned(cap, allowed)
        for facts in (("device_bandwidth", "shared_bandwidth"), ("nvme_read", "nvme_write"))
    )
    gains = [0.0 if other is None else max(0.0, here.step_time - other.step_time) for other in (roomier, links, drives)]
    moved = dict(zip(TIERS, replayed(job, here.plan, on).away, strict=True))
    return Worth(tuple(tier for tier in TIERS if moved[tier] > (1 - LEFT) * layout.room[tier]), *gains)


def peak_of(layout: Layout, found: Planned) -> Peak:
    """The moment most memory is used, and what a static placement of that stage's tensors takes."""
    one = replayed(layout.job, found.plan, layout.on)
    stage, action = one.footprint.peak
    order = one.step.order
    chunks = order.place.shape[1]
    layers = max(1, round(float(layout.choices(MemoryPlan()).layers[stage]) / chunks))
    beginning = _beginning(order)
    passes = int((beginning.phase[stage] == FORWARD).sum())
    blocks = lifetimes(beginning, one.held, stage, max(1, min(layers, MOST_BLOCKS // passes)))
    stays = float(one.footprint.resident[stage] - one.footprint.held[CLASSES.index("fragmentation"), stage])
    return Peak(
        stage,
        PHASES[int(order.phase[stage, action])],
        int(order.microbatch[stage, action]),
        stays + blocks.live,
        stays + packed(blocks).height,
    )


def _beginning(order: Order) -> Order:
    """The actions of so many microbatches that most are in flight: what follows repeats them.

    All of them where forward passes of all come first.
    """
    most = REPEATS * order.place.size
    ahead = np.cumsum(np.where(order.phase == FORWARD, 1, np.where(order.phase == BACKWARD, -1, 0)), axis=1)
    if ahead.max() > most:
        return order
    later = order.microbatch >= most
    none = {name: np.where(later, NONE, getattr(order, name)) for name in ("chunk", "microbatch", "phase")}
    return replace(order, **none)


def _faster(job: Job, more: float, facts: tuple[str, ...]) -> Job:
    """The same job, with so many bytes a second more of these facts of its hosts; what devices share grows for each."""
    host = job.cluster.node.host
    stated = {name: fact for name in facts if (fact := getattr(host, name)) is not None}
    grown = {
        name: fact.model_copy(update={"value": fact.value + more * (job.node_devices if "shared" in name else 1)})
        for name, fact in stated.items()
    }
    node = job.cluster.node.model_copy(update={"host": host.model_copy(update=grown)})
    return job.model_copy(update={"cluster": job.cluster.model_copy(update={"node": node})})
