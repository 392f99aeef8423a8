"""The only wiring of the stages: job and plans in; time, memory and their make-up out."""

from simtrain.estimate.closed import HEADROOM, TERMS, Detail, Estimate, detail, estimate
from simtrain.estimate.passes import Passes, machine, passes

__all__ = ["HEADROOM", "TERMS", "Detail", "Estimate", "Passes", "detail", "estimate", "machine", "passes"]
