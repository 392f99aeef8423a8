"""Why a plan stands where it stands, in words drawn from the same arrays as its numbers."""

import numpy as np

from simtrain.estimate import TERMS, Detail, Estimate
from simtrain.views.format import gib, percent, seconds


def reasons(estimate: Estimate, detail: Detail) -> list[str]:
    """What bounds the first plan; for each other, the terms in which it loses most per sequence to the first."""
    if not len(estimate.plans):
        return []
    batch = estimate.plans.global_batch
    each = detail.terms / batch
    first = [_bound(estimate, detail)]
    return first + [_against(each[:, 0], each[:, row], int(batch[row])) for row in range(1, len(batch))]


def _bound(estimate: Estimate, detail: Detail) -> str:
    shares = detail.terms[:, 0] / estimate.step_time[0]
    order = np.argsort(-shares)[:3]
    spent = ", ".join(f"{TERMS[i]} {percent(float(shares[i]))}" for i in order)
    margin = float(estimate.capacity - estimate.memory.total[0])
    verdict = f"{gib(margin)} of memory to spare" if margin >= 0 else f"short of memory by {gib(-margin)}"
    return f"{spent}; {verdict}"


def _against(best: np.ndarray, other: np.ndarray, batch: int) -> str:
    difference = (other - best) * batch
    worse = [i for i in np.argsort(-difference)[:2] if difference[i] > 0.001 * other.sum() * batch]
    better = [i for i in np.argsort(difference)[:1] if difference[i] < -0.001 * other.sum() * batch]
    if not worse:
        return "equal in time to the first" if not better else "differs by less than 0.1 % of a step in every term"
    lost = ", ".join(f"+{seconds(float(difference[i]))} {TERMS[i]}" for i in worse)
    won = "".join(f", -{seconds(float(-difference[i]))} {TERMS[i]}" for i in better)
    return lost + won
