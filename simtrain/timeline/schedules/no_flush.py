"""Pipelined backpropagation (arXiv 2003.11666): 1F1B that never drains; a stage updates its weights as it goes.

Gradients are computed on weights that later steps have changed by then (2(S - s) updates, ibid. section 3).
"""

from simtrain.timeline.order import Order
from simtrain.timeline.schedules import one_f_one_b


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """1F1B over all microbatches given; the replay takes the time between two steps of a long run."""
    return one_f_one_b.order(stages, chunks, microbatches)
