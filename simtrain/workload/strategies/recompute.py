"""Activation recomputation: none, selective (Korthikanti et al., arXiv 2205.05198 section 5), full, full for k layers.

Selective drops the outputs of the roles the stack names and runs those ops again in the backward pass.
Full keeps a layer's input only and runs its whole forward pass again; with `full_layers` = k it does so for k
layers a stage (Megatron-LM's block method).
"""

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.plan import RECOMPUTE, PlanTable
from simtrain.workload.rule import Rule

NONE, SELECTIVE, FULL = (RECOMPUTE.index(name) for name in ("none", "selective", "full"))


def full_share(plans: PlanTable, layers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of a stage's `layers` that is recomputed in full; same shape as `layers`."""
    share = np.minimum(plans.full_layers, layers) / np.maximum(layers, 1)
    return np.where(plans.recompute == FULL, 1.0, share)


RULES = (
    Rule(
        "partial recomputation names fewer layers than a stage holds",
        "k layers a stage only makes sense below the stage's layers",
        lambda job, plans: (
            (plans.full_layers == 0) | ((plans.recompute != FULL) & (plans.full_layers < job.model.layers / plans.pp))
        ),
    ),
)
