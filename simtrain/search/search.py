"""Search: every legal plan of a job estimated, the best kept, the rest counted."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate import HEADROOM, Detail, Estimate, estimate, machine
from simtrain.price.blocks import Machine
from simtrain.search.pareto import front, thinned
from simtrain.search.refine import neighbours
from simtrain.search.space import Space, Tally, placements
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.memory_policy import Action
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.memory import CLASSES
from simtrain.workload.program import distinct
from simtrain.workload.strategies.recompute import NONE

Array = NDArray[np.float64]
MESH: Final = ("tp", "cp", "pp", "ep")
"""Degrees that tell ranked plans apart; the data-parallel one follows."""
SCHEDULE: Final = (*MESH, "schedule")
STATES: Final = (*MESH, "zero", "offload")
STAYING: Final = tuple(CLASSES.index(name) for name in ("weights", "gradients", "optimizer", "buffers", "reserve"))
"""Memory that no treatment of activations frees."""
TOLD_APART: Final = 0.02
"""Share of memory by which neighbours on the front differ at least: predictions are off by more."""
CHUNKS_EACH: Final = 2
"""Numbers of chunks replayed of a schedule: closed forms of one schedule differ from the replay by the same."""
NEXT_BEST: Final = 8
"""Plans replayed besides."""
APART: Final = 0.03
"""Share of a step by which closed forms and replays differ at most (tests/laws/test_closed_form_replay.py)."""
MOST_LAYOUTS: Final = 24
"""Layouts whose memory is planned at most; it ends before where the next one, with everything kept, is slower than the
best that fits."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Search:
    """The answer for a job: ranked plans, the trade-off front, and the count of everything looked at."""

    job: Job
    best: Estimate
    """Plans that fit, with headroom if any does, the fastest of each mesh, fastest first."""
    detail: Detail
    """Of `best`."""
    pareto: Estimate
    """Plans no other beats in time, memory and cost per token at once, fastest first."""
    closest: Estimate
    """The plan that needs least memory, whether or not it fits (no rows when nothing is legal)."""
    tally: Tally
    fits: int
    elapsed: float
    """Seconds."""

    @property
    def ties(self) -> NDArray[np.bool_]:
        """Ranked plans whose interval reaches the best one's step time per sequence."""
        best = self.best
        low = self.detail.low / best.plans.global_batch
        return np.asarray(low <= (best.step_time / best.plans.global_batch)[:1])


@dataclass(frozen=True)
class _Kept:
    best: PlanTable
    front: PlanTable
    closest: PlanTable
    whole: PlanTable
    """Layouts that keep everything and do not fit so, the fastest of each mesh."""
    tally: Tally
    fits: int


def search(job: Job, top: int, progress: Progress | None = None, allowed: Sequence[Action] = ()) -> Search:
    """Estimate every legal plan and keep the `top` meshes fastest per token; `progress(done, all)` counts blocks.

    `allowed`: what memory plans may do with activations; none are made where it is empty. With host memory or drives
    among it, states go where the stack can place them there, too.
    """
    start = time.perf_counter()
    on = machine(job)
    space = Space(job, placements(job, allowed))
    chunks = space.chunks()
    kept: list[_Kept] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, part in enumerate(pool.map(lambda chunk: _block(job, space, chunk, on, top), chunks), start=1):
            kept.append(part)
            if len(kept) == 64:
                kept = [_merge(job, kept, on, top)]
            if progress is not None:
                progress(done, len(chunks))
    result = _merge(job, kept, on, top) if kept else _nothing(Tally())
    tally = space.tally
    tally.add(result.tally)
    tally.enumerated = tally.legal + sum(tally.rejected.values())
    best, made = refined(job, result.best, on, top)
    if allowed:
        best, made = _treated(job, best, made, result.whole, on, top, allowed)
    return Search(
        job=job,
        best=best,
        detail=made,
        pareto=_front(job, result.front, on),
        closest=_replayed(job, result.closest, on)[0],
        tally=tally,
        fits=result.fits,
        elapsed=time.perf_counter() - start,
    )


def refined(job: Job, plans: PlanTable, on: Machine, top: int) -> tuple[Estimate, Detail]:
    """The best of these plans and of the finer steps around them, replayed, fastest first."""
    around = estimate(job, unique(PlanTable.concatenate([plans, neighbours(job, plans)])), on)
    rows = _good(around)
    pace, need = around.step_time / around.plans.global_batch, around.memory.total
    listed = rows[_shortlisted(around.plans.take(rows), pace[rows], need[rows])]
    replayed, made = _replayed(job, around.plans.take(listed), on)
    good = _good(replayed)
    order = ranked(
        replayed.plans.take(good), (replayed.step_time / replayed.plans.global_batch)[good], replayed.memory.total[good]
    )
    chosen = good[order[:top]]
    return replayed.take(chosen), made.take(chosen)


def _treated(
    job: Job, best: Estimate, made: Detail, whole: PlanTable, on: Machine, top: int, allowed: Sequence[Action]
) -> tuple[Estimate, Detail]:
    """The best plans and layouts with memory plans, ranked together.

    A layout that keeps everything is as fast as it gets: layouts are taken in that order, those of the best plans among
    them, until the next could not beat what was found. Those that a plan of their own mesh beats so are passed over.
    """
    from simtrain.search.memory import Layout

    kept = best.plans.keeping()
    layouts = estimate(job, unique(PlanTable.concatenate([kept, whole])), on)
    bound = layouts.step_time / layouts.plans.global_batch
    cap = (1 - HEADROOM) * layouts.capacity
    found: list[Plan] = [best.plan(row) for row in range(len(best.plans))]
    paces: dict[tuple[int, ...], float] = {
        mesh_of(plan): float(best.step_time[row] / plan.global_batch) for row, plan in enumerate(found)
    }
    for row in np.argsort(bound, kind="stable")[:MOST_LAYOUTS].tolist():
        if len(paces) >= top and bound[row] >= (1 + APART) * sorted(paces.values())[top - 1]:
            break
        plan = layouts.plans.plan(row)
        mesh = mesh_of(plan)
        if bound[row] >= paces.get(mesh, np.inf) * (1 + APART):
            continue
        one = Layout(job, plan, on).planned(cap, allowed)
        if one is not None:
            found.append(one.plan)
            paces[mesh] = min(paces.get(mesh, np.inf), one.step_time / plan.global_batch)
    again, details = _replayed(job, PlanTable.of(found), on, [plan.memory for plan in found])
    good = _good(again)
    pace = (again.step_time / again.plans.global_batch)[good]
    order = good[ranked(again.plans.take(good), pace, again.memory.total[good])[:top]]
    return again.take(order), details.take(order)


def _front(job: Job, plans: PlanTable, on: Machine) -> Estimate:
    """What is left of a front once its plans are replayed; steps of memory too small to tell are left out."""
    spare = thinned(estimate(job, plans, on).memory.total, TOLD_APART)
    replayed, _ = _replayed(job, plans.take(spare), on)
    fit = np.flatnonzero(replayed.fits)
    pace = replayed.step_time / replayed.plans.global_batch
    return replayed.take(fit[front(pace[fit], replayed.memory.total[fit])])


def _replayed(
    job: Job, plans: PlanTable, on: Machine, memory: Sequence[MemoryPlan | None] = ()
) -> tuple[Estimate, Detail]:
    """Few plans replayed; what that needs is loaded when there are any."""
    from simtrain.estimate.replayed import exact

    return exact(job, plans, on, memory=memory)


def mesh_of(plan: Plan) -> tuple[int, ...]:
    """What tells ranked plans apart, of one of them."""
    return plan.tp, plan.cp_ring * plan.cp_head, plan.pp, plan.ep


def _good(evaluated: Estimate) -> NDArray[np.int64]:
    """Rows that fit with headroom, or that fit at all where none has any."""
    return np.flatnonzero(evaluated.roomy if evaluated.roomy.any() else evaluated.fits)


def _shortlisted(plans: PlanTable, pace: Array, need: Array) -> NDArray[np.int64]:
    """Rows of plans worth a replay: of every schedule of every mesh the best of a few numbers of chunks, and the next
    best of all."""
    order = np.lexsort((need, pace))
    shapes = np.sort(np.unique(distinct(plans, (*SCHEDULE, "vpp")).index[order], return_index=True)[1])
    schedule = distinct(plans, SCHEDULE).index[order[shapes]]
    grouped = np.argsort(schedule, kind="stable")
    begins = np.concatenate([[True], np.diff(schedule[grouped]) > 0])[: len(grouped)]
    place = np.arange(len(grouped)) - np.maximum.accumulate(np.where(begins, np.arange(len(grouped)), 0))
    few = shapes[grouped[place < CHUNKS_EACH]]
    return np.asarray(order[np.unique(np.concatenate([few, np.arange(min(NEXT_BEST, len(order)))]))])


def _nothing(tally: Tally) -> _Kept:
    none = PlanTable.of([])
    return _Kept(none, none, none, none, tally, 0)


def _block(job: Job, space: Space, chunk: slice, on: Machine, top: int) -> _Kept:
    plans, tally = space.block(chunk)
    if not len(plans):
        return _nothing(tally)
    evaluated = estimate(job, plans, on)
    return _keep(evaluated, tally, int(evaluated.fits.sum()), top)


def _keep(evaluated: Estimate, tally: Tally, fits: int, top: int) -> _Kept:
    plans = evaluated.plans
    need = evaluated.memory.total
    pace = evaluated.step_time / plans.global_batch
    fit = np.flatnonzero(evaluated.fits)
    good = _good(evaluated)
    stays = evaluated.memory.classes[list(STAYING)].sum(axis=0)
    possible = (stays <= (1 - HEADROOM) * evaluated.capacity) & evaluated.fits_beside
    whole = np.flatnonzero(possible & ~evaluated.roomy & (plans.recompute == NONE) & (plans.full_layers == 0))
    return _Kept(
        best=plans.take(good[ranked(plans.take(good), pace[good], need[good])[:top]]),
        front=plans.take(fit[front(pace[fit], need[fit])]),
        closest=plans.take(np.array([need.argmin()])),
        whole=plans.take(whole[ranked(plans.take(whole), pace[whole], need[whole], STATES)[:MOST_LAYOUTS]]),
        tally=tally,
        fits=fits,
    )


def ranked(plans: PlanTable, pace: Array, need: Array, columns: tuple[str, ...] = MESH) -> NDArray[np.int64]:
    """Rows of the fastest plan of each mesh, fastest first; of equally fast ones that which needs least memory.

    `columns`: those in which the plans that are kept differ.

    Plans of one mesh that differ in chunks, microbatch, sharding or recomputation would fill the ranking alone.
    """
    order = np.lexsort((need, pace))
    first = np.unique(distinct(plans, columns).index[order], return_index=True)[1]
    return order[np.sort(first)]


def _merge(job: Job, parts: Iterable[_Kept], on: Machine, top: int) -> _Kept:
    parts = list(parts)
    tally = Tally()
    for part in parts:
        tally.add(part.tally)
    fits = sum(part.fits for part in parts)
    together = PlanTable.concatenate([t for part in parts for t in (part.best, part.front, part.closest, part.whole)])
    if not len(together):
        return _nothing(tally)
    return _keep(estimate(job, unique(together), on), tally, fits, top)


def unique(plans: PlanTable) -> PlanTable:
    """The same plans, each once, in the order they first appear."""
    rows = np.stack(list(vars(plans).values()))
    first = np.unique(rows, axis=1, return_index=True)[1]
    return plans.take(np.sort(first))
