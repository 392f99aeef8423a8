"""The only wiring of the stages: job and plans in; time, memory and their make-up out."""

from simtrain.estimate.closed import HEADROOM, TERMS, Detail, Estimate, detailed, estimate
from simtrain.estimate.passes import Passes, launches, machine, passes, priced

__all__ = [
    "HEADROOM",
    "TERMS",
    "Detail",
    "Estimate",
    "Passes",
    "detailed",
    "estimate",
    "launches",
    "machine",
    "passes",
    "priced",
]
