"""Which layers a pipeline stage gets where a framework fills stages up to equal shares of the model's weights."""

import functools
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from simtrain.workload.parameters import Parameters

Counts = NDArray[np.float64]


def filled(parts: Parameters, layers: int, stages: NDArray[np.int64]) -> tuple[Counts, Counts]:
    """Stages a representative stands for and layers on each, shape (representatives, plans), as in pipeline.Layout.

    Inner stages that hold most are one representative, the mean of the others is another.
    """
    layer = parts.attention + parts.dense_mlp
    known, index = np.unique(stages, return_inverse=True)
    each = [_representatives(layers, layer, parts.embedding, int(count)) for count in known]
    counts, held = (np.array([one[part] for one in each], float).T for part in (0, 1))
    return counts[:, index], held[:, index]


@functools.cache
def _representatives(layers: int, layer: int, head: int, stages: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    held = _held(layers, layer, head, stages)
    if stages == 1:
        return (1, 0, 0, 0), (layers, 0, 0, 0)
    inner = held[1:-1]
    most = max(inner, default=0)
    fuller = inner.count(most)
    others = len(inner) - fuller
    mean = (sum(inner) - fuller * most) / max(others, 1)
    return (1, fuller, others, 1), (held[0], most, mean, held[-1])


def _held(layers: int, layer: int, head: int, stages: int) -> list[int]:
    """Layers of every stage when layers of weight `layer` and the `head` at the end are dealt in order.

    A stage takes blocks until what has been dealt exceeds its equal share and all before it (nanotron build_model:
    block_cumulative_costs against thresholds). Stages left over behind the head hold nothing; they are put before it.
    """
    dealt = list(accumulate([layer] * layers + [head]))
    held, stage = [0] * stages, 0
    for total in dealt[:-1]:
        held[stage] += 1
        if total * stages > dealt[-1] * (stage + 1):
            stage += 1
    return held[:stage] + held[stage + 1 :] + [held[stage]]
