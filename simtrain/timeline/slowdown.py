"""Slow stages, ranks and replicas laid over the data-parallel replicas of a pipeline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.spec.plan import Plan
from simtrain.spec.slow import Slow
from simtrain.timeline.order import Index

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Slowdown:
    """Data-parallel replicas that are alike, as one: they meet at the same moments."""

    factor: Array
    """On the passes of every stage, shape (kinds of replicas, stages)."""
    replica: Index
    """The first of each kind, ascending, shape (kinds,)."""
    count: Index
    """How many are of it, shape (kinds,)."""


def slowdown(slow: Sequence[Slow], plan: Plan, stages: int) -> Slowdown:
    """What is slow in a pipeline of so many stages; factors of one place multiply.

    Ranks that exchange tokens between experts in every layer run at the pace of the slowest of them. WrongInput with
    every place that is not there.
    """
    ranks = plan.tp * plan.cp_ring * plan.cp_head
    there = {"stage": stages, "replica": plan.dp, "rank": stages * plan.dp * ranks}
    problems = [
        Problem("--slow", one.text, f"{name} {place}: there are {name}s 0 to {last - 1}")
        for one in slow
        for name, last in there.items()
        if (place := getattr(one, name)) is not None and place >= last
    ]
    if problems:
        raise WrongInput(problems)
    factor = np.ones((plan.dp, stages))
    for one in slow:
        stage, replica = one.stage, one.replica
        if one.rank is not None:
            stage, replica = divmod(one.rank // ranks, plan.dp)
        factor[
            slice(None) if replica is None else replica,
            slice(None) if stage is None else stage,
        ] *= one.factor
    together = max(1, plan.ep * plan.etp // ranks)
    group = np.arange(plan.dp) // together
    slowest = np.maximum.reduceat(factor, np.flatnonzero(np.diff(group, prepend=-1)))[group]
    _, first, count = np.unique(slowest, axis=0, return_index=True, return_counts=True)
    at = np.argsort(first)
    return Slowdown(slowest[first[at]], first[at], count[at])
