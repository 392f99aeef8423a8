"""Fit the few physical numbers of devices and stacks to measured runs, and say how far off unseen sweeps are.

Every number is a rate or a duration of a device or a stack; none keys on a model, a device count or a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate import estimate, machine
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
DEVICE_NUMBERS: Final = ("matmul", "elementwise", "scaleup", "network")
STACK_NUMBERS: Final = ("launch", "step_overhead", "matmul_rate", "attention_rate")
PRIOR: Final = {
    "matmul": 0.10,
    "elementwise": 0.25,
    "scaleup": 0.25,
    "network": 0.50,
    "launch": 0.70,
    "step_overhead": 1.00,
    "matmul_rate": 0.10,
    "attention_rate": 0.25,
}
"""How far (one standard deviation of the logarithm) each number may plausibly lie from its starting value."""
NOISE: Final = 0.05
"""Relative error one run is expected to keep: measurement noise and what no number here can express."""
HIGHEST: Final = 1.2
"""Largest rate over tables and laws: these reach about 80 % of peak bandwidth and matmul rate (profiles/devices)."""
DIFFERENCE: Final = 0.02
ITERATIONS: Final = 12
SMALLEST_DURATION: Final = 1e-6
"""Start of durations a stack states as zero, so that they can be scaled."""


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
    device: str


@dataclass(frozen=True)
class Numbers:
    """Fitted numbers by device and by stack, as factors on the values they start from."""

    devices: dict[str, dict[str, float]]
    stacks: dict[str, dict[str, float]]


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
            device=device_key(runs[rows[0]].job),
        )
        for rows in found.values()
    ]


def device_key(job: Job) -> str:
    """The device a job's rates belong to."""
    return job.cluster.device.name


class Fit:
    """The unknowns of a set of runs: a factor's logarithm for each number of each device and stack they use."""

    def __init__(self, runs: Sequence[Measured]):
        self.runs = runs
        self.groups = groups(runs)
        self.devices = sorted({group.device for group in self.groups})
        self.stacks = sorted({group.job.stack.name for group in self.groups})
        self.names = [(kind, "device", number) for kind in self.devices for number in DEVICE_NUMBERS]
        self.names += [(kind, "stack", number) for kind in self.stacks for number in STACK_NUMBERS]
        self.position = {name: index for index, name in enumerate(self.names)}
        self.measured = np.log([run.step_time for run in runs])
        sweeps = [run.sweep for run in runs]
        self.sweeps, self.sweep = np.unique(sweeps, return_inverse=True)
        size = np.bincount(self.sweep)[self.sweep]
        self.weight = 1 / (NOISE * np.sqrt(np.sqrt(size)))
        self.prior = np.array([PRIOR[number] for _, _, number in self.names])

    def log_error(self, x: Array) -> Array:
        """log(predicted / measured) of every run at factors exp(x)."""
        predicted = np.empty(len(self.runs))
        for group in self.groups:
            job = group.job.model_copy(
                update={"stack": scaled(group.job.stack, self._of(group.job.stack.name, "stack", x))}
            )
            on = replace(machine(job), rates=rates(self._of(group.device, "device", x)))
            predicted[group.rows] = estimate(job, group.plans, on).step_time
        return np.log(predicted) - self.measured

    def _of(self, name: str, kind: str, x: Array) -> dict[str, float]:
        """The factors of one device or stack."""
        numbers = DEVICE_NUMBERS if kind == "device" else STACK_NUMBERS
        return {number: float(np.exp(x[self.position[name, kind, number]])) for number in numbers}

    def jacobian(self, x: Array, error: Array) -> Array:
        """d error / d x by differences; a run depends on its own device and stack, so a number moves everywhere."""
        jacobian = np.zeros((len(self.runs), len(x)))
        for kind, numbers in (("device", DEVICE_NUMBERS), ("stack", STACK_NUMBERS)):
            for number in numbers:
                moved = x.copy()
                columns = [i for i, name in enumerate(self.names) if name[1:] == (kind, number)]
                moved[columns] += DIFFERENCE
                slope = (self.log_error(moved) - error) / DIFFERENCE
                for group in self.groups:
                    owner = group.device if kind == "device" else group.job.stack.name
                    jacobian[group.rows, self.position[owner, kind, number]] = slope[group.rows]
        return jacobian

    def solve(self, progress: Callable[[int, int], None] | None = None) -> Fitted:
        """Robust maximum a posteriori by Gauss-Newton with the weights of a Cauchy loss, then leave-one-sweep-out."""
        x = np.zeros(len(self.names))
        error = self.log_error(x)
        for done in range(ITERATIONS):
            if progress is not None:
                progress(done, ITERATIONS)
            jacobian = self.jacobian(x, error)
            step = self._solve(jacobian, error, x, np.ones(len(error), dtype=bool))
            for shrink in (1.0, 0.5, 0.25):
                tried = x + shrink * step
                next_error = self.log_error(tried)
                if self._cost(next_error, tried) < self._cost(error, x):
                    break
            else:
                break
            moved = np.abs(tried - x).max()
            x, error = tried, next_error
            if moved < 1e-3:
                break
        jacobian = self.jacobian(x, error)
        left_out = error.copy()
        for sweep in range(len(self.sweeps)):
            out = self.sweep == sweep
            step = self._solve(jacobian, error, x, ~out)
            left_out[out] = error[out] + jacobian[out] @ step
        return Fitted(self._numbers(x), error, left_out)

    def _robust(self, error: Array) -> Array:
        return self.weight / np.sqrt(1 + (error * self.weight) ** 2)

    def _cost(self, error: Array, x: Array) -> float:
        return float(np.sum(np.log1p((error * self.weight) ** 2)) + np.sum((x / self.prior) ** 2))

    def _solve(self, jacobian: Array, error: Array, x: Array, used: NDArray[np.bool_]) -> Array:
        weight = self._robust(error)[used, None]
        design = np.concatenate([jacobian[used] * weight, np.diag(1 / self.prior)])
        target = np.concatenate([-error[used] * weight[:, 0], -x / self.prior])
        return np.asarray(np.linalg.lstsq(design, target, rcond=None)[0])

    def _numbers(self, x: Array) -> Numbers:
        return Numbers(
            {name: self._of(name, "device", x) for name in self.devices},
            {name: self._of(name, "stack", x) for name in self.stacks},
        )


def rates(factors: dict[str, float]) -> DeviceRates:
    """Device rates with these values, none above the data sheet: `HIGHEST` over what tables and laws reach."""
    return DeviceRates(
        **{
            name: Fact[float](value=min(value, HIGHEST), source="calibration", evidence=Evidence.MEASURED_ELSEWHERE)
            for name, value in factors.items()
        }
    )


def scaled(stack: Stack, factors: dict[str, float]) -> Stack:
    """The stack with its fitted numbers at these factors on what profiles/stacks describes."""
    described = stack_as_described(stack.name)
    changed = {}
    for name, factor in factors.items():
        fact = getattr(described, name)
        changed[name] = fact.model_copy(update={"value": max(fact.value, SMALLEST_DURATION) * factor})
    return stack.model_copy(update=changed)
