"""A plan's step and the curves of its passes -> a trade-off; and how few clocks a step can do with."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.price.curve import Curve
from simtrain.price.power_law import law_curve, scaled_curve
from simtrain.price.power_profile import PowerProfile
from simtrain.search.tradeoff import Tradeoff
from simtrain.spec.hardware import Device
from simtrain.timeline.costs import Costs
from simtrain.timeline.graph import COMPUTE, OPTIMIZER, Graph
from simtrain.timeline.order import FORWARD, NONE, PHASES, Index
from simtrain.timeline.replay import replay

Array = NDArray[np.float64]
CurveOf = Callable[[int, int, int], Curve]
"""Of a phase, a stage and a chunk."""
GROUPS: Final = ("warm-up", "steady", "drain")
"""Passes before a stage's first backward pass, between, and after its last forward pass."""


def tradeoff(graph: Graph, costs: Costs, curve_of: CurveOf, blocking: float, host: float = 0.0) -> Tradeoff:
    """A clock to choose for every pass of one replica.

    `blocking`: W of a device that waits, `host`: W of its share of hosts. Everything but passes takes its time at any
    clock, and devices draw `blocking` in it.
    """
    stages, chunks = costs.hops.size, costs.forward.shape[2]
    compute = np.arange(len(graph)) < graph.first[(COMPUTE + 1) * graph.ranks]
    seconds = costs.pass_seconds()
    number = (graph.kind * stages + graph.rank) * chunks + graph.chunk
    used, found = np.unique(number[compute], return_inverse=True)
    where = [np.unravel_index(at, (len(PHASES), stages, chunks)) for at in used]
    whole = np.array([float(seconds[at]) for at in where])
    free = compute.copy()
    free[compute] = whole[found] > 0
    curve, part = np.full(len(graph), NONE), np.zeros(len(graph))
    curve[compute] = found
    part[compute] = np.divide(
        (graph.seconds - graph.blocked)[compute], whole[found], out=np.zeros(len(found)), where=whole[found] > 0
    )
    group = np.full(len(graph), NONE)
    group[free] = np.arange(free.sum())
    ranks = graph.ranks
    begins = np.zeros(ranks)
    if not costs.synchronous:
        begins = replay(graph).start[graph.first[COMPUTE * ranks : (COMPUTE + 1) * ranks]]
    return Tradeoff(
        graph=graph,
        fixed=np.where(free, graph.blocked, graph.seconds),
        curve=np.where(free, curve, NONE),
        part=part,
        curves=tuple(
            curve_of(*map(int, at)).over(blocking).worth() if full > 0 else Curve(*np.zeros((3, 1)))
            for at, full in zip(where, whole, strict=True)
        ),
        group=group,
        standing=ranks * (blocking + host),
        ends=graph.first[OPTIMIZER * ranks + 1 : (OPTIMIZER + 1) * ranks + 1] - 1,
        begins=begins,
    )


def coarse(fine: Tradeoff) -> Tradeoff:
    """One clock for all passes of a stage, phase, chunk and part of the step (GROUPS)."""
    chosen = fine.group != NONE
    code = fine.curve * len(GROUPS) + parts_of_step(fine.graph)
    group = np.full(len(code), NONE)
    group[chosen] = np.unique(code[chosen], return_inverse=True)[1]
    return fine.grouped(group)


def staged(fine: Tradeoff, parts: bool = False) -> Tradeoff:
    """One clock for all passes of a stage, which never changes; with `parts` one in each part of the step (GROUPS).

    WrongInput where a stage's passes share no clock.
    """
    chosen = fine.group != NONE
    group = np.full(len(fine.group), NONE)
    code = fine.graph.rank * len(GROUPS) + (parts_of_step(fine.graph) if parts else 0)
    group[chosen] = np.unique(code[chosen], return_inverse=True)[1]
    shared = list(fine.curves)
    for rank in range(fine.graph.ranks):
        used = np.unique(fine.curve[chosen & (fine.graph.rank == rank)]).tolist()
        common = set.intersection(*(set(fine.curves[at].clock.tolist()) for at in used)) if used else set()
        if used and not common:
            rule = "has no clock that all its passes share"
            hint = "measure forward and backward passes at the same clocks"
            raise WrongInput([Problem("--profile", f"stage {rank}", rule, hint)])
        for at in used:
            shared[at] = fine.curves[at].take(np.isin(fine.curves[at].clock, list(common)))
    return replace(fine, group=group, curves=tuple(shared))


def parts_of_step(graph: Graph) -> Index:
    """Of every operation the index into GROUPS; of what is no pass, 0."""
    part = np.zeros(len(graph), dtype=np.int64)
    for rank in range(graph.ranks):
        stream = graph.stream(COMPUTE, rank)
        ahead = graph.kind[stream] == FORWARD
        at = np.arange(len(ahead))
        part[stream] = np.where(at > at[ahead].max(), 2, np.where(at < at[~ahead].min(), 0, 1))
    return part


def curves(
    device: Device, costs: Costs, profile: PowerProfile | None, waiting: float, cap: float | None = None
) -> CurveOf:
    """Measured curves where there is a profile of these stages, the law elsewhere; under a power `cap` (W).

    `waiting`: W of a device that waits.
    """
    parts = (costs.forward, costs.backward + costs.weight, costs.backward, costs.weight)
    stages, chunks = costs.forward.shape[1:]
    if profile is not None and (len(profile.curves), chunks) != (stages, 1):
        rule = f"holds {len(profile.curves)} stages, but the plan has {stages} of {chunks} chunks"
        raise WrongInput([Problem("--profile", profile.name, rule, "leave it out to use the law")])

    def curve_of(phase: int, stage: int, chunk: int) -> Curve:
        seconds = parts[phase][:, stage, chunk]
        if profile is None:
            found = law_curve(device, seconds)
        else:
            found = scaled_curve(profile.curves[stage][0 if phase == FORWARD else 1], float(seconds.sum()))
        return found if cap is None else found.capped(cap, waiting)

    return curve_of


@dataclass(frozen=True)
class Late:
    """A step whose new clocks come late."""

    seconds: Array
    """Of every operation, shape (operations,)."""
    joules: float
    """Of all passes, beyond what stands (see Tradeoff)."""
    changes: int
    """How often clocks change in a step."""


def with_switches(tradeoff: Tradeoff, choice: Index, latency: float) -> Late:
    """The step where a new clock comes after `latency` s of passes.

    Until it comes passes run at the clock before, at its joules. A step begins as the one before ended.
    """
    seconds, joules = tradeoff.fixed.copy(), 0.0
    clock = clocks_of(tradeoff, choice)
    changes = 0
    for rank in range(tradeoff.graph.ranks):
        stream = tradeoff.graph.stream(COMPUTE, rank)
        passes = [at for at in range(stream.start, stream.stop) if tradeoff.group[at] != NONE]
        running, wanted, left = (clock[passes[-1]], clock[passes[-1]], 0.0) if passes else (0.0, 0.0, 0.0)
        for of_this_step in (False, True):
            for at in passes:
                if clock[at] != wanted:
                    wanted, left = clock[at], latency if clock[at] != running else 0.0
                    changes += of_this_step
                options, part = tradeoff.curves[tradeoff.curve[at]], tradeoff.part[at]
                whole = part * np.array(_at(options, wanted))
                if left > 0:
                    before = part * np.array(_at(options, running))
                    share = min(left / before[0], 1.0) if before[0] > 0 else 0.0
                    left = max(left - before[0], 0.0)
                    whole = share * before + (1 - share) * whole
                if left == 0:
                    running = wanted
                if of_this_step:
                    seconds[at] += whole[0]
                    joules += float(whole[1])
    return Late(seconds, joules, changes)


def _at(options: Curve, clock: float) -> tuple[float, float]:
    """Seconds and joules at a clock, between those there are."""
    falling = options.clock[::-1]
    return float(np.interp(clock, falling, options.seconds[::-1])), float(
        np.interp(clock, falling, options.joules[::-1])
    )


def clocks_of(tradeoff: Tradeoff, choice: Index) -> Array:
    """Hz of every operation; 0 where there is nothing to choose, shape (operations,)."""
    chosen = np.flatnonzero(tradeoff.group != NONE)
    found = np.zeros(len(tradeoff.graph))
    found[chosen] = [tradeoff.curves[tradeoff.curve[at]].clock[choice[tradeoff.group[at]]] for at in chosen.tolist()]
    return found


def steady(stages: Tradeoff, choice: Index) -> tuple[float, ...]:
    """Hz of each stage of a trade-off with one clock a stage (see staged); 0 where nothing is to be chosen."""
    clock, rank = clocks_of(stages, choice), stages.graph.rank
    return tuple(float(clock[rank == stage].max()) for stage in range(stages.graph.ranks))


def at_clock(tradeoff: Tradeoff, clock: float) -> Index:
    """The option of every group nearest below a clock; WrongInput where the device does not have it."""
    known = np.unique(np.concatenate([curve.clock for curve in tradeoff.curves]))
    if not np.isclose(known, clock, rtol=1e-9).any():
        close = known[np.abs(known - clock).argsort()[:2]]
        hint = "did you mean " + " or ".join(f"{value / 1e6:.0f} MHz" for value in sorted(close.tolist())) + "?"
        rule = "is not a clock of these passes, or another takes less time and energy"
        raise WrongInput([Problem("--clock", f"{clock / 1e6:.0f} MHz", rule, hint)])
    return np.array(
        [int(np.abs(tradeoff.curves[curve].clock - clock).argmin()) for curve in tradeoff.of_group.tolist()]
    )
