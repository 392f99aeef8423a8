"""Fit what a stack's memory allocator loses between blocks to published memory figures and to which runs ran out of it.

One share a stack. A run's bytes are linear in it, so a grid of shares is tried on all runs at once and every sweep can
be left out exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import WrongInput
from simtrain.estimate import launches, machine, priced
from simtrain.spec.load import stack_as_described
from simtrain.spec.plan import PlanTable
from simtrain.timeline.memory import CLASSES, DYNAMIC, memory
from simtrain.validation.calibrate import Numbers, at_numbers
from simtrain.validation.corpus import Corpus
from simtrain.validation.rows import Expressed, express
from simtrain.validation.summary import GIB, sweep_key

Array = NDArray[np.float64]
NUMBER: Final = "fragmentation"
"""The fact of a stack that is fitted."""
SHARES: Final = np.geomspace(0.002, 0.6, 400)
"""Shares tried."""
PRIOR: Final = 2.0
"""How far (one standard deviation of the logarithm) the share may plausibly lie from what the stack's file states."""
SCATTER: Final = 0.10
"""Relative error one memory figure is expected to keep."""
WIDTH: Final = 0.05
"""Relative distance from a device's memory within which a verdict is open."""
MISLABELLED: Final = 0.02
"""Share of runs that fail or fit for reasons no memory model holds."""


@dataclass(frozen=True)
class Observed:
    """What runs of one stack tell of memory beside what they are predicted to hold, an entry or column a run."""

    stack: str
    sources: tuple[str, ...]
    sweep: NDArray[np.int64]
    held: Array
    """Bytes but for what the allocator loses, shape (representative stages, runs)."""
    dynamic: Array
    """Bytes it loses a share of, same shape."""
    capacity: Array
    ran: NDArray[np.bool_]
    figure: Array
    """Published bytes, NaN without."""
    counted: Array
    """What of `held` the figure counts."""
    exposed: Array
    """Bytes a share of whose loss the figure counts."""

    @property
    def speaks(self) -> bool:
        """Whether anything bounds the share from below: a figure it is part of, or a run that ran out of memory."""
        return bool((~self.ran).any() or (self.exposed * ~np.isnan(self.figure)).any())

    def need(self, share: Array | float) -> Array:
        """Bytes on the fullest stage, shape (shares, runs)."""
        each = np.reshape(share, (-1, 1, 1))
        return np.asarray((self.held + each * self.dynamic).max(axis=1))

    def error(self, share: Array | float) -> Array:
        """log(predicted / published) of the figures, NaN without, same shape."""
        return np.asarray(np.log((self.counted + np.reshape(share, (-1, 1)) * self.exposed) / self.figure))


@dataclass(frozen=True)
class Allocator:
    """The share of one stack, and every run's need and error with its own sweep left out of the fit."""

    of: Observed
    share: float
    need: Array
    error: Array

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the left-out verdict is what happened."""
        return np.asarray((self.need <= self.of.capacity) == self.of.ran)


def fit(observed: Observed) -> Allocator:
    """The share that makes figures and verdicts of all sweeps likeliest, and the same for each sweep from the rest."""
    cost = _cost(observed)
    start = getattr(stack_as_described(observed.stack), NUMBER).value
    prior = (np.log(SHARES / start) / PRIOR) ** 2
    together = cost.sum(axis=1) + prior
    need, error = np.empty_like(observed.capacity), np.empty_like(observed.capacity)
    for sweep in np.unique(observed.sweep):
        out = observed.sweep == sweep
        share = SHARES[(together - cost[:, out].sum(axis=1)).argmin()]
        need[out], error[out] = observed.need(share)[0, out], observed.error(share)[0, out]
    return Allocator(observed, float(SHARES[together.argmin()]), need, error)


def _cost(observed: Observed) -> Array:
    """Minus twice the log likelihood of every run at every share: figures by a Cauchy law, verdicts by a logistic one.

    Sweeps weigh with the root of their runs, which are near-duplicates.
    """
    figures = np.log1p(np.nan_to_num(observed.error(SHARES) / SCATTER) ** 2)
    margin = np.log(observed.capacity / observed.need(SHARES)) / WIDTH * np.where(observed.ran, 1, -1)
    verdicts = -2 * np.log(MISLABELLED + (1 - 2 * MISLABELLED) / (1 + np.exp(-margin)))
    size = np.bincount(observed.sweep)[observed.sweep]
    return np.asarray((figures + verdicts) / np.sqrt(size))


def allocators(found: Corpus, numbers: Numbers | None = None) -> list[Allocator]:
    """A share for every stack whose runs bound it; see observed_runs."""
    return [fit(observed) for observed in observed_runs(found, numbers) if observed.speaks]


def observed_runs(found: Corpus, numbers: Numbers | None = None) -> list[Observed]:
    """The runs that ran or ran out of memory, by stack, at the numbers of a fit; None: those of the calibration."""
    jobs: dict[int, list[Expressed]] = {}
    for item in express(found):
        if isinstance(item, Expressed) and item.row.status in ("ok", "oom"):
            jobs.setdefault(id(item.job), []).append(item)
    stacks: dict[str, list[dict[str, Any]]] = {}
    for items in jobs.values():
        stacks.setdefault(items[0].job.stack.name, []).extend(_told(items, numbers))
    return [_together(name, told) for name, told in sorted(stacks.items()) if told]


def _told(items: Sequence[Expressed], numbers: Numbers | None) -> list[dict[str, Any]]:
    """What each run of one job tells."""
    job = items[0].job
    try:
        on = machine(job)
        if numbers is not None:
            job, on = at_numbers(job, on, numbers)
            start = {NUMBER: getattr(stack_as_described(job.stack.name), NUMBER)}
            job = job.model_copy(update={"stack": job.stack.model_copy(update=start)})
        described, times = priced(job, PlanTable.of([item.plan for item in items]), on)
    except WrongInput:
        return []
    found = memory(described, launches(described, times)).by_stage
    lost = found[CLASSES.index(NUMBER)]
    held, dynamic = found.sum(axis=0) - lost, found[DYNAMIC].sum(axis=0)
    outside = found[CLASSES.index("reserve")]
    told = []
    for i, item in enumerate(items):
        stage = 0 if item.first_stage else int((held + lost)[:, i].argmax())
        peak = item.row.peak_mem_gib
        told.append(
            {
                "source": item.row.source,
                "sweep": " ".join(map(str, sweep_key(item.row))),
                "held": held[:, i],
                "dynamic": dynamic[:, i],
                "capacity": job.cluster.device.memory.value,
                "ran": item.row.status == "ok",
                "figure": np.nan if peak is None else peak * GIB,
                "counted": held[stage, i] - (0.0 if item.memory == "device" else outside[stage, i]),
                "exposed": 0.0 if item.memory == "allocated" else dynamic[stage, i],
            }
        )
    return told


def _together(stack: str, told: list[dict[str, Any]]) -> Observed:
    columns = {name: np.array([run[name] for run in told]) for name in told[0]}
    return Observed(
        stack=stack,
        sources=tuple(str(source) for source in columns.pop("source")),
        sweep=np.unique(columns.pop("sweep"), return_inverse=True)[1],
        **{name: column.T for name, column in columns.items()},
    )
