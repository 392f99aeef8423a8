"""Legality as data: a rule is a name, a reason and a test of whole columns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable


@dataclass(frozen=True)
class Rule:
    """What a legal plan must satisfy; `holds` maps (job, plans) to a mask of shape (plans,)."""

    name: str
    reason: str
    holds: Callable[[Job, PlanTable], NDArray[np.bool_]]
    beside: Callable[[PlanTable], str] | None = None
    """What else than another layout would keep it, of the first plan; empty if nothing."""
