"""The memory plan of one layout: every stage's tensors treated so that it fits and loses least time, then replayed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from itertools import product
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.estimate.choices import Choices, Passage, choices
from simtrain.estimate.effects import effects
from simtrain.estimate.passes import priced
from simtrain.estimate.replayed import exact, replayed
from simtrain.price.blocks import Machine
from simtrain.price.step import sync_time
from simtrain.search.layout import described, stated
from simtrain.search.space import broken_rules
from simtrain.search.treatment import Solution, StageCase, least_added, needed, solve
from simtrain.spec import load
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import TIERS, MemoryPlan, StageMemory, Tier, Treatment
from simtrain.spec.memory_policy import Action, Policy, free
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.tensors import TensorName
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT
from simtrain.timeline.step import Step, waits

Array = NDArray[np.float64]
CORRECTIONS: Final = 3
"""Replays in which the program's idea of each stage's peak, and of what a step grows by, is set right."""
CHUNKS: Final = ((1, 1), (8, 1), (64, 16))
"""Chunks of the loss and of layers that are tried, in order, where chunks are allowed."""
FREE: Final = 1e-4
"""Share of a step a plan may add for no other to be tried."""
LEAST_SHOWN: Final = 0.05
"""Share of a treatment's seconds that a step grows by at least, or its inverse at most."""
Found = TypeVar("Found")
Allowed = Sequence[Action] | Policy
"""What memory plans may do: a few actions to any tensor, or what a system does."""
AGREE: Final = 0.02
"""Share of a step by which program and replay may differ before it is said."""


@dataclass(frozen=True)
class Planned:
    """A layout with its memory plan."""

    plan: Plan
    step_time: float
    """Replayed, seconds."""
    expected: float
    """By the program: the layout's step without any treatment, and what treatment adds on its slowest stage."""
    peak: float
    """Replayed, bytes."""
    stage: int
    """Where the peak is."""

    @property
    def rank(self) -> tuple[float, float]:
        """The fastest first; of equals the one the program knew best."""
        return self.step_time, abs(self.expected - self.step_time)

    @property
    def agrees(self) -> bool:
        """Whether program and replay differ by no more than `AGREE`."""
        return abs(self.expected / self.step_time - 1) <= AGREE


class Layout:
    """One layout, priced once; memory plans for any cap are made of it."""

    def __init__(self, job: Job, plan: Plan, on: Machine):
        self.job, self.on = job, on
        self.plan = plan.model_copy(update={"memory": None, "recompute": "none", "full_layers": 0})
        table = PlanTable.of([self.plan])
        self.base = replayed(job, self.plan, on)
        self._described, self._times = priced(job, table, on)
        closed, _ = exact(job, table, on)
        self._moved = sync_time(job, on, self._described.stages).moved
        self._waits = _waits(self.base.step)
        held = closed.memory
        self.room: dict[Tier, float] = {
            "cpu": closed.host_capacity - float(held.host[0]),
            "nvme": closed.drives_capacity - float(held.drives[0]),
        }
        """Bytes left for activations off the device."""
        self._showed = 1.0
        """The share of what treatment adds by which the last step that was replayed grew."""
        self._choices: dict[str, Choices] = {}

    def choices(self, tier: MemoryPlan) -> Choices:
        """What treatment costs, with this plan's tier and bits."""
        key = f"{tier.tier} {tier.bits}"
        if key not in self._choices:
            self._choices[key] = choices(self._described, self._times, self.on, 0, self.base.stages, tier, self._moved)
        return self._choices[key]

    @property
    def peak(self) -> float:
        """Bytes that the layout takes with everything kept."""
        return float(self.base.footprint.total.max())

    def planned(self, cap: float, allowed: Allowed) -> Planned | None:
        """The fastest memory plan within `cap` bytes that the replay confirms; None where none of these actions do.

        Everything is kept where that fits.
        """
        if isinstance(allowed, Policy):
            return self._within(cap, allowed, allowed.frame)
        if self.peak <= cap:
            plan, step = self.plan.model_copy(update={"memory": MemoryPlan()}), self.base.step.seconds
            return Planned(plan, step, step, self.peak, self.base.footprint.peak[0])
        chunked = CHUNKS if "chunk" in allowed else CHUNKS[:1]
        tiers: list[Tier] = [tier for tier in TIERS if tier in allowed] or ["cpu"]
        policy, best = free(allowed), None
        for tier, (loss, layer) in product(tiers, chunked):
            frame = MemoryPlan(tier=tier, loss_chunks=loss, layer_chunks=layer)
            if best is not None and self._least(cap, policy, frame) > (1 + AGREE) * best.step_time:
                continue
            found = self._within(cap, policy, frame)
            if found is not None and (best is None or found.step_time < best.step_time):
                best = found
            if best is not None and best.step_time <= (1 + FREE) * self.base.step.seconds:
                break
        return best

    def _least(self, cap: float, policy: Policy, frame: MemoryPlan) -> float:
        """Seconds of a step that no plan with one tier and one number of chunks is expected to stay below."""
        cases = self.cases(cap, frame, self._kept_slack(cap, frame), min(self._showed, 1.0))
        return self._expected(cases, _each(cases, lambda case: least_added(case, policy)))

    def _within(self, cap: float, policy: Policy, frame: MemoryPlan) -> Planned | None:
        """With one tier and one number of chunks: solved, replayed, the peaks set right and solved again."""
        slack, shown = self._kept_slack(cap, frame), 1.0
        best: Planned | None = None
        for _ in range(CORRECTIONS):
            cases = self.cases(cap, frame, slack, shown)
            solved = self._solved(cases, policy)
            if solved is None:
                break
            found, peaks = self._replayed(cases, solved, frame)
            self._showed = self._shown(cases, solved, found)
            if found.peak <= cap and (best is None or found.rank < best.rank):
                best = found
            wrong = self._overstated(cases, solved, peaks, frame)
            if np.abs(wrong - slack).max() <= 1e-3 * cap and found.agrees:
                break
            slack, shown = wrong, self._showed
        return best

    def _kept_slack(self, cap: float, frame: MemoryPlan) -> Array:
        """Bytes by which the program overstates what every stage needs with everything kept."""
        return self._overstated(self.cases(cap, frame, np.zeros(len(self.base.stages))), None, None, MemoryPlan())

    def _expected(self, cases: Sequence[StageCase], added: Sequence[float]) -> float:
        """Seconds of a step whose stages add this much to a microbatch's passes."""
        before = np.array([sum(case.passes) for case in cases])
        microbatches = int(PlanTable.of([self.plan]).microbatches[0])
        return self.base.step.seconds + microbatches * float((before + added).max() - before.max())

    def _shown(self, cases: Sequence[StageCase], solved: Sequence[Solution], found: Planned) -> float:
        """The share of what treatment adds to the slowest stage's passes by which the replayed step grew."""
        slowest = int(np.argmax([sum(case.passes) + sum(one.added) for case, one in zip(cases, solved, strict=True)]))
        case, one = cases[slowest], solved[slowest]
        computed = (sum(one.added) - one.stalled) / max(case.shown, LEAST_SHOWN)
        if computed <= FREE * sum(case.passes):
            return case.shown
        microbatches = int(PlanTable.of([found.plan]).microbatches[0])
        grown = (found.step_time - self.base.step.seconds) / microbatches - one.stalled
        return float(np.clip(grown / computed, LEAST_SHOWN, 1 / LEAST_SHOWN))

    def _overstated(
        self, cases: Sequence[StageCase], solved: Sequence[Solution] | None, peaks: Array | None, frame: MemoryPlan
    ) -> Array:
        """Bytes by which the program overstates what comes and goes, against replayed `peaks`; of everything kept where
        nothing is solved yet. Shape (stages,)."""
        held = self.base.footprint
        moving = ((held.total.max(axis=1) if peaks is None else peaks) - held.resident) / (1 + held.lost)
        treatments = [one.tensors for one in solved] if solved is not None else [{} for _ in cases]
        need = [
            needed(case, tensors) + self._loss(stage, frame)
            for stage, (case, tensors) in enumerate(zip(cases, treatments, strict=True))
        ]
        return np.asarray(np.array(need) - moving)

    def _loss(self, stage: int, frame: MemoryPlan) -> float:
        of = self.choices(frame)
        return float(self.base.footprint.logits[stage].max()) * of.at_loss(frame.loss_chunks) / of.at_loss(1)

    def cases(self, cap: float, frame: MemoryPlan, slack: Array, shown: float = 1.0) -> list[StageCase]:
        """What every stage has to solve; `slack`: bytes by which its need was overstated, shape (stages,)."""
        of, base = self.choices(frame), self.base
        whole = of.size.sum(axis=0)
        alive = base.footprint.activations.max(axis=1)
        passes = base.step.costs.pass_seconds()[[FORWARD, BACKWARD]].sum(axis=2)
        effect = effects(of, frame.layer_chunks)
        found = []
        for stage in range(len(base.stages)):
            room = (cap - base.footprint.resident[stage]) / (1 + base.footprint.lost)
            found.append(
                StageCase(
                    layers=int(np.ceil(of.layers[stage])),
                    size=of.size[:, stage],
                    effects=effect.of(stage),
                    passages=tuple(_at(one, stage) for one in of.passages),
                    passes=(float(passes[0, stage]), float(passes[1, stage])),
                    wait=float(self._waits[stage]),
                    in_flight=float(alive[stage] / whole[stage]) if whole[stage] else 0.0,
                    room=float(room - self._loss(stage, frame) + slack[stage]),
                    away_room=self.room[frame.tier],
                    shown=shown,
                )
            )
        return found

    def _solved(self, cases: Sequence[StageCase], policy: Policy) -> list[Solution] | None:
        """Every stage's treatment; None where one has none."""
        solved = _each(cases, lambda case: solve(case, policy))
        found = [one for one in solved if one is not None]
        return found if len(found) == len(solved) else None

    def _replayed(
        self, cases: Sequence[StageCase], solved: Sequence[Solution], frame: MemoryPlan
    ) -> tuple[Planned, Array]:
        """The plan of these treatments, and every stage's peak."""
        memory = frame.model_copy(update={"stages": together([one.tensors for one in solved])})
        plan = self.plan.model_copy(update={"memory": memory})
        found = replayed(self.job, plan, self.on)
        peaks = found.footprint.total.max(axis=1)
        expected = self._expected(cases, [sum(one.added) for one in solved])
        return Planned(plan, found.step.seconds, expected, float(peaks.max()), int(peaks.argmax())), peaks


def _waits(step: Step) -> Array:
    """Seconds a microbatch's backward passes begin later for gathers and reductions, shape (stages,)."""
    graph = step.graph
    _, _, reduced, gathered, *_ = waits(graph, step.times, np.zeros(graph.ranks))
    passes = slice(0, len(reduced))
    back = (graph.kind[passes] == BACKWARD) | (graph.kind[passes] == INPUT)
    gaps = np.bincount(graph.rank[passes], (reduced + gathered) * back, step.order.stages)
    return np.asarray(gaps / step.order.microbatches)


def _each(cases: Sequence[StageCase], of: Callable[[StageCase], Found]) -> list[Found]:
    """Of every case, equal ones worked out once."""
    known: dict[tuple[object, ...], Found] = {}
    keys = [tuple(_flat(case)) for case in cases]
    for key, case in zip(keys, cases, strict=True):
        if key not in known:
            known[key] = of(case)
    return [known[key] for key in keys]


def _at(passage: Passage, stage: int) -> Passage:
    taken, taken_back = passage.taken_out[[stage]], passage.taken_back[[stage]]
    return replace(passage, taken_out=taken, taken_back=taken_back)


def _flat(part: object) -> Iterator[object]:
    """Everything a case is made of, hashable."""
    if isinstance(part, np.ndarray):
        yield part.tobytes()
    elif isinstance(part, tuple):
        for one in part:
            yield from _flat(one)
    elif is_dataclass(part):
        yield from _flat(tuple(vars(part).values()))
    else:
        yield part


def together(tensors: Sequence[dict[TensorName, Treatment]]) -> tuple[StageMemory, ...]:
    """Neighbouring stages of equal treatment as one; those that keep everything are left out."""
    found: list[StageMemory] = []
    for stage, treatment in enumerate(tensors):
        if found and found[-1].last == stage - 1 and found[-1].tensors == treatment:
            found[-1] = found[-1].model_copy(update={"last": stage})
        elif treatment:
            found.append(StageMemory(first=stage, last=stage, tensors=treatment))
    return tuple(found)


def followed(job: Job, plan: Plan, policy: Policy) -> tuple[Job, Plan]:
    """Job and layout with the states and the optimizer of a system; WrongInput where a rule of layouts is broken so."""
    optimizer = job.optimizer if policy.optimizer is None else load.optimizer(policy.optimizer)
    kept = plan.model_copy(update={"memory": None, "recompute": "none", "full_layers": 0, "offload": policy.offload})
    frozen = {"freeze": policy.freeze} if policy.freeze else {}
    job, table = job.model_copy(update={"optimizer": optimizer, **frozen}), PlanTable.of([kept])
    broken = broken_rules(job, table)[0]
    if broken:
        raise WrongInput([Problem(described(job, table, rule), None, stated(rule)) for rule in broken])
    return job, kept
