"""Predict every row of a corpus: rows of one job are one table of plans."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import WrongInput
from simtrain.estimate import detailed, machine
from simtrain.spec.plan import PlanTable
from simtrain.timeline.memory import CLASSES, Memory
from simtrain.validation.corpus import Corpus, Row
from simtrain.validation.rows import Expressed, Unsupported, express

_OUTSIDE = {"device": (), "reserved": ("reserve",), "allocated": ("reserve", "fragmentation")}
"""Classes of memory that a figure does not count."""


@dataclass(frozen=True)
class Prediction:
    """What is predicted of one row; numbers are NaN and `plan` empty where it is `unsupported`."""

    row: Row
    unsupported: str | None = None
    expressed: Expressed | None = None
    step_time: float = np.nan
    """Seconds; `low` and `high` bound its interval."""
    low: float = np.nan
    high: float = np.nan
    memory: float = np.nan
    """Bytes, of what the row's source counts: allocated tensors, the allocator's blocks, or the whole device."""
    device_memory: float = np.nan
    """Bytes of everything on the fullest device."""
    fits: bool = False
    roomy: bool = False
    """Whether it also leaves the memory free that ranked plans leave (estimate.HEADROOM)."""
    terms: NDArray[np.float64] | None = None
    """Seconds by estimate.TERMS."""

    @property
    def ratio(self) -> float:
        """Predicted over measured step time; NaN where either is missing."""
        return self.step_time / self.row.step_s if self.row.step_s else np.nan


def score(found: Corpus) -> list[Prediction]:
    """One prediction a row, in order."""
    predictions: list[Prediction | None] = []
    jobs: dict[int, list[tuple[int, Expressed]]] = {}
    for index, item in enumerate(express(found)):
        if isinstance(item, Unsupported):
            predictions.append(Prediction(item.row, item.reason))
        else:
            predictions.append(None)
            jobs.setdefault(id(item.job), []).append((index, item))
    for members in jobs.values():
        for (index, _), prediction in zip(members, _predicted([item for _, item in members]), strict=True):
            predictions[index] = prediction
    return [prediction for prediction in predictions if prediction is not None]


def _counted(found: Memory, plan: int, item: Expressed) -> float:
    """Bytes of what the row's source counts."""
    classes = found.by_stage[:, 0, plan] if item.first_stage else found.classes[:, plan]
    outside = [CLASSES.index(name) for name in _OUTSIDE[item.memory]]
    return float(classes.sum() - classes[outside].sum())


def _predicted(items: list[Expressed]) -> list[Prediction]:
    """The rows of one job."""
    job = items[0].job
    plans = PlanTable.of([item.plan for item in items])
    try:
        on = machine(job)
        result, made_of = detailed(job, plans, on)
    except WrongInput as error:
        return [Prediction(item.row, "; ".join(map(str, error.problems))) for item in items]
    total = result.memory.total
    return [
        Prediction(
            row=item.row,
            expressed=item,
            step_time=float(result.step_time[i]),
            low=float(made_of.low[i]),
            high=float(made_of.high[i]),
            memory=_counted(result.memory, i, item),
            device_memory=float(total[i]),
            fits=bool(result.fits[i]),
            roomy=bool(result.roomy[i]),
            terms=made_of.terms[:, i],
        )
        for i, item in enumerate(items)
    ]
