"""Fit the few physical numbers of devices and stacks to measured runs, and say how far off unseen sweeps are.

Every number is a rate or a duration of a device or a stack; none keys on a model, a device count or a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from simtrain.estimate import estimate, machine
from simtrain.price.blocks import Machine
from simtrain.spec.base import Evidence, Fact
from simtrain.spec.calibration import DeviceRates
from simtrain.spec.job import Job
from simtrain.spec.load import stack_as_described
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.stack import Stack
from simtrain.validation.corpus import Corpus
from simtrain.validation.rows import Expressed, express
from simtrain.validation.summary import sweep_key

Array = NDArray[np.float64]
NUMBERS: Final[dict[str, tuple[str, ...]]] = {
    "architecture": ("matmul", "elementwise", "attention", "unfused_attention"),
    "device": ("scaleup",),
    "node": ("network",),
    "stack": ("launch", "microbatch_overhead", "collective_wait", "rebuild_wait", "matmul_rate", "data_overlap"),
}
"""What is fitted of whom: parts of one architecture and silicon share clocks and caches, of one profile links inside a
scale-up domain, nodes of one kind adapters."""
PRIOR: Final = {
    "matmul": 0.10,
    "elementwise": 0.25,
    "scaleup": 0.10,
    "network": 0.50,
    "attention": 0.25,
    "unfused_attention": 0.25,
    "launch": 0.70,
    "microbatch_overhead": 1.50,
    "collective_wait": 1.50,
    "rebuild_wait": 1.50,
    "matmul_rate": 0.10,
    "data_overlap": 0.50,
}
"""How far (one standard deviation of the logarithm) each number may plausibly lie from its starting value."""
NOISE: Final = 0.03
"""Relative error one run is expected to keep: measurement noise and what no number here can express."""
HIGHEST: Final = {
    "matmul": 1.1,
    "elementwise": 1.1,
    "scaleup": 1.2,
    "network": 1.2,
    "matmul_rate": 1.0,
    "data_overlap": 1.25,
    "attention": 1.2,
    "unfused_attention": 1.2,
}
"""Tables and laws reach some 80 to 90 % of the data sheet (profiles/devices), so these end about there. A training
library is no faster than the ones the tables were measured with."""
EDGE: Final = 1e-9
"""Room the bounded solver needs around a number that lies on its bound."""
DIFFERENCE: Final = 0.02
ITERATIONS: Final = 40
ENOUGH: Final = 0.3
"""What a step lowers the cost by (twice a logarithm of likelihood) when the fit ends: nothing that can be told."""


@dataclass(frozen=True)
class Measured:
    """One timed run."""

    name: str
    source: str
    sweep: str
    job: Job
    plan: Plan
    step_time: float


@dataclass(frozen=True)
class _Group:
    """Runs that share all but the plan."""

    job: Job
    plans: PlanTable
    rows: NDArray[np.int64]
    on: Machine


Numbers = dict[str, dict[str, dict[str, float]]]
"""By kind of owner and owner, the fitted numbers as factors on the values they start from."""


@dataclass(frozen=True)
class Fitted:
    """A fit: numbers, the runs' log errors with them, and the errors of each sweep had it been left out."""

    numbers: Numbers
    error: Array
    left_out: Array
    """log(predicted / measured) of every run from the other sweeps alone, to first order around the fit."""


def measured_runs(found: Corpus) -> list[Measured]:
    """The timed runs of a corpus that can be expressed."""
    runs = []
    for item in express(found):
        row = item.row
        if isinstance(item, Expressed) and row.status == "ok" and row.step_s is not None:
            runs.append(
                Measured(row.id, row.source, " ".join(map(str, sweep_key(row))), item.job, item.plan, row.step_s)
            )
    return runs


def groups(runs: Sequence[Measured]) -> list[_Group]:
    """Runs by job (the same object), so that each job's plans are estimated in one table."""
    found: dict[int, list[int]] = {}
    for row, run in enumerate(runs):
        found.setdefault(id(run.job), []).append(row)
    return [
        _Group(
            job=runs[rows[0]].job,
            plans=PlanTable.of([runs[row].plan for row in rows]),
            rows=np.array(rows),
            on=machine(runs[rows[0]].job),
        )
        for rows in found.values()
    ]


def owner(job: Job, kind: str) -> str:
    """Whose number of a kind a job runs on."""
    device = job.cluster.device
    silicon = device.silicon or device.architecture
    names = {
        "architecture": silicon,
        "device": device.profile or device.name,
        "node": job.cluster.node.name,
        "stack": job.stack.name,
    }
    return names[kind]


class Fit:
    """The unknowns of a set of runs: a factor's logarithm for each number of each device and stack they use."""

    def __init__(self, runs: Sequence[Measured]):
        self.runs = runs
        self.groups = groups(runs)
        owners = {kind: sorted({owner(group.job, kind) for group in self.groups}) for kind in NUMBERS}
        self.names = [
            (kind, name, number)
            for kind in NUMBERS
            for name in owners[kind]
            for number in NUMBERS[kind]
            if kind != "stack" or _open(name, number)
        ]
        self.position = {name: index for index, name in enumerate(self.names)}
        self.measured = np.log([run.step_time for run in runs])
        sweeps = [run.sweep for run in runs]
        self.sweeps, self.sweep = np.unique(sweeps, return_inverse=True)
        self.weight = 1 / (NOISE * np.sqrt(np.sqrt(_alike(runs))))
        self.prior = np.array([PRIOR[number] for _, _, number in self.names])
        highest = [HIGHEST.get(name[2], np.inf) / _start(*name) for name in self.names]
        self.upper = np.log(highest)

    def log_error(self, x: Array) -> Array:
        """log(predicted / measured) of every run at factors exp(x)."""
        predicted, numbers = np.empty(len(self.runs)), self._numbers(x)
        for group in self.groups:
            job, on = at_numbers(group.job, group.on, numbers)
            predicted[group.rows] = estimate(job, group.plans, on).step_time
        return np.log(predicted) - self.measured

    def jacobian(self, x: Array, error: Array) -> Array:
        """d error / d x by differences; a run depends on its own owners' numbers, so one moves everywhere at once."""
        jacobian = np.zeros((len(self.runs), len(x)))
        for kind, numbers in NUMBERS.items():
            for number in numbers:
                moved = x.copy()
                moved[[i for i, (k, _, n) in enumerate(self.names) if (k, n) == (kind, number)]] += DIFFERENCE
                slope = (self.log_error(moved) - error) / DIFFERENCE
                for group in self.groups:
                    column = self.position.get((kind, owner(group.job, kind), number))
                    if column is not None:
                        jacobian[group.rows, column] = slope[group.rows]
        return jacobian

    def solve(self, progress: Callable[[int, int], None] | None = None) -> Fitted:
        """Robust maximum a posteriori by Gauss-Newton with the weights of a Cauchy loss, then leave-one-sweep-out."""
        x = np.zeros(len(self.names))
        error = self.log_error(x)
        cost = self._cost(error, x)
        for done in range(ITERATIONS):
            if progress is not None:
                progress(done, ITERATIONS)
            jacobian = self.jacobian(x, error)
            step = self._solve(jacobian, error, x)
            for shrink in (1.0, 0.5, 0.25):
                tried = x + shrink * step
                next_error = self.log_error(tried)
                lower = self._cost(next_error, tried)
                if lower < cost:
                    break
            else:
                break
            gained = cost - lower
            x, error, cost = tried, next_error, lower
            if gained < ENOUGH:
                break
        jacobian = self.jacobian(x, error)
        left_out = error.copy()
        for sweep in range(len(self.sweeps)):
            out = self.sweep == sweep
            step = self._solve(jacobian, error, x, out)
            left_out[out] = error[out] + jacobian[out] @ step
        return Fitted(self._numbers(x), error, left_out)

    def _robust(self, error: Array) -> Array:
        return self.weight / np.sqrt(1 + (error * self.weight) ** 2)

    def _cost(self, error: Array, x: Array) -> float:
        return float(np.sum(np.log1p((error * self.weight) ** 2)) + np.sum((x / self.prior) ** 2))

    def _solve(self, jacobian: Array, error: Array, x: Array, out: NDArray[np.bool_] | None = None) -> Array:
        """The bounded step by the normal equations, of all runs less those left `out`."""
        design = jacobian * self._robust(error)[:, None]
        target = -error * self._robust(error)
        if out is not None:
            design, target = design[~out], target[~out]
        square = design.T @ design + np.diag(self.prior**-2)
        root = np.linalg.cholesky(square)
        goal = np.linalg.solve(root, design.T @ target - x / self.prior**2)
        return np.asarray(lsq_linear(root.T, goal, bounds=(-np.inf, self.upper - x + EDGE)).x)

    def _numbers(self, x: Array) -> Numbers:
        numbers: Numbers = {kind: {} for kind in NUMBERS}
        for kind, name, number in self.names:
            numbers[kind].setdefault(name, {})[number] = float(np.exp(x[self.position[kind, name, number]]))
        return numbers


def at_numbers(job: Job, on: Machine, numbers: Numbers) -> tuple[Job, Machine]:
    """A job and its machine with the fitted numbers of their owners, whatever calibration they were read with."""
    factors = {kind: numbers[kind].get(owner(job, kind), {}) for kind in NUMBERS}
    stack = scaled(job.stack, factors["stack"])
    found = rates(factors["architecture"] | factors["device"] | factors["node"])
    return job.model_copy(update={"stack": stack}), replace(on, rates=found)


def _alike(runs: Sequence[Measured]) -> NDArray[np.int64]:
    """Runs of one source and model, which share most of what is wrong with them: together they weigh as their root."""
    groups = [f"{run.source} {run.job.model.name}" for run in runs]
    _, group = np.unique(groups, return_inverse=True)
    return np.asarray(np.bincount(group)[group])


def _open(stack: str, number: str) -> bool:
    """Whether a stack's number is to be fitted: where its file only assumes a value, and not that there is none."""
    fact: Fact[float] = getattr(stack_as_described(stack), number)
    return fact.evidence is Evidence.ASSUMED and fact.value > 0


def _start(kind: str, name: str, number: str) -> float:
    """What a factor multiplies, where a rate of the stack is stated; 1 where it is the rate itself."""
    if kind != "stack" or number not in HIGHEST:
        return 1.0
    return float(getattr(stack_as_described(name), number).value)


def rates(factors: dict[str, float]) -> DeviceRates:
    """Device rates with these values."""
    return DeviceRates(
        **{
            name: Fact[float](value=value, source="calibration", evidence=Evidence.MEASURED_ELSEWHERE)
            for name, value in factors.items()
        }
    )


def scaled(stack: Stack, factors: dict[str, float]) -> Stack:
    """The stack with its fitted numbers at these factors on what profiles/stacks describes."""
    described = stack_as_described(stack.name)
    changed = {}
    for name, factor in factors.items():
        fact = getattr(described, name)
        changed[name] = fact.model_copy(update={"value": fact.value * factor})
    return stack.model_copy(update=changed)
