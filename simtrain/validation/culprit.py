"""Why a prediction is off: the one term of the step whose change alone would best explain a run and its neighbours.

A suspect is a term that, multiplied by some factor, gives the measured time. It is the more likely the less that
factor strains what is known of the term, and the better the same factor does on runs that differ in one setting; both
by a Cauchy density, as in the fit, so that neither a wide prior nor one odd neighbour decides alone.
It says where to look first, not what is true: two terms that grow alike over all neighbours cannot be told apart, and
what is predicted to hide completely is no term.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simtrain.estimate import TERMS
from simtrain.spec.plan import Plan
from simtrain.validation.calibrate import NOISE, PRIOR
from simtrain.validation.score import Prediction
from simtrain.validation.summary import timed

Array = NDArray[np.float64]
OVERLAP: Final = 0.5
"""How far (standard deviation of the logarithm) exposed communication may lie off through its assumed overlap: a
judgement, as half of it more or less shows at most stated shares."""
STATED: Final = {"bubble": 0.25, "step overhead": 1.0, "activation copies": 1.0}
"""The same of terms no number is fitted to, judgements: idling is as wide as a rate, host time a step and copies as a
duration."""
RATES: Final = {
    "matmul": ("matmul", "matmul_rate"),
    "attention": ("attention",),
    "elementwise": ("elementwise",),
    "optimizer": ("elementwise",),
    "launch": ("launch",),
}
"""Calibrated numbers a term's seconds are proportional to."""
LINKS: Final = {
    "tensor communication": False,
    "head exchange": False,
    "expert communication": False,
    "context communication": True,
    "pipeline communication": True,
    "gradient reduction": True,
    "parameter gathering": True,
}
"""Terms on links, and whether what shows of them rests on an assumed overlap."""
FAR: Final = 3.0
"""Standard deviations beyond which no term alone explains a run."""


@dataclass(frozen=True)
class Suspect:
    """A term that could bring a run to its measured time."""

    term: str
    share: float
    """Of the predicted step time (1)."""
    factor: float
    """On the term alone that gives the measured time."""
    stretch: float
    """How far that is, in standard deviations of what is known of the term."""
    neighbours: int
    """Timed runs that differ in one setting and have the term."""
    agree: int
    """Of these, the ones the same factor brings nearer to their measured time."""
    belief: float
    """Against the other suspects; all together 1."""

    @property
    def alone(self) -> bool:
        """Whether this term alone is a believable explanation."""
        return self.stretch <= FAR


def suspects(accused: Sequence[Prediction], predictions: Sequence[Prediction]) -> list[list[Suspect]]:
    """For each of the `accused` (timed) runs its suspects, likeliest first; neighbours come from `predictions`."""
    groups: dict[tuple[Any, ...], list[Prediction]] = defaultdict(list)
    for p in timed(predictions):
        groups[_group(p)].append(p)
    return [_suspects(p, [q for q in groups[_group(p)] if q is not p and _apart(p, q) <= 1]) for p in accused]


def _group(p: Prediction) -> tuple[Any, ...]:
    row = p.row
    return (row.source, row.model, row.gpu, row.precision)


def _settings(p: Prediction) -> tuple[Any, ...]:
    """What somebody may set; the data-parallel degree and the shard group follow."""
    row, plan = p.row, _plan(p)
    mesh = (plan.tp, plan.sp, plan.cp_ring, plan.cp_head, plan.pp, (plan.schedule, plan.vpp), plan.ep, plan.etp)
    batch = (plan.zero, plan.micro_batch, (plan.recompute, plan.full_layers))
    return (row.gpus, row.seq, row.global_batch, row.attention_kernel, row.software, *mesh, *batch)


def _apart(one: Prediction, other: Prediction) -> int:
    """Settings in which two runs differ."""
    return sum(a != b for a, b in zip(_settings(one), _settings(other), strict=True))


def _suspects(p: Prediction, neighbours: Sequence[Prediction]) -> list[Suspect]:
    terms, measured = _terms(p), float(p.row.step_s or np.nan)
    beside = np.array([_terms(q) for q in neighbours]).reshape(len(neighbours), len(TERMS))
    times = np.array([float(q.row.step_s or np.nan) for q in neighbours])
    total = beside.sum(axis=1)
    before = np.abs(np.log(total / times))
    found: list[Suspect] = []
    scores: list[float] = []
    for i, name in enumerate(TERMS):
        factor = 1 + (measured - p.step_time) / terms[i] if terms[i] > 0 else 0.0
        if factor <= 0:
            continue
        stretch = abs(float(np.log(factor))) / width(name, p)
        has = beside[:, i] > 0
        after = np.abs(np.log((total + (factor - 1) * beside[:, i]) / times))
        strain = float(np.log1p((after / NOISE) ** 2).mean()) if len(after) else 0.0
        agree = int((has & (after < before)).sum())
        found.append(Suspect(name, float(terms[i] / p.step_time), factor, stretch, int(has.sum()), agree, 0.0))
        scores.append(-float(np.log1p(stretch**2)) - strain)
    belief = np.exp(np.array(scores) - max(scores, default=0.0))
    order = np.argsort(-belief, kind="stable")
    return [Suspect(**vars(found[i]) | {"belief": float(belief[i] / belief.sum())}) for i in order]


def width(term: str, p: Prediction) -> float:
    """Standard deviation of the logarithm of a term's seconds before any run is seen: its numbers' priors together."""
    if term in STATED:
        return STATED[term]
    if term in RATES:
        return hypot(*(PRIOR[number] for number in RATES[term]))
    assert p.expressed is not None
    link = PRIOR["network" if _reach(term, _plan(p)) > p.expressed.job.domain else "scaleup"]
    return hypot(link, OVERLAP * LINKS[term])


def _reach(term: str, plan: Plan) -> int:
    """Ranks from the first to the last of the group a communication term spans."""
    stage = plan.tp * plan.cp_ring * plan.cp_head * plan.dp
    return {
        "tensor communication": plan.tp,
        "head exchange": plan.tp * plan.cp_head,
        "context communication": plan.tp * plan.cp_head * plan.cp_ring,
        "expert communication": plan.etp * plan.ep,
        "pipeline communication": stage * plan.pp,
    }.get(term, stage)


def _plan(p: Prediction) -> Plan:
    assert p.expressed is not None
    return p.expressed.plan


def _terms(p: Prediction) -> Array:
    assert p.terms is not None
    return p.terms
