"""Communication of a layer that hides behind compute."""

import numpy as np
from numpy.typing import NDArray

from simtrain.price.categories import ATTENTION, CONTEXT, ELEMENTWISE, EXPERT, MATMUL, TENSOR, Parts, summed
from simtrain.spec.job import Job


def hidden_inside(parts: Parts, job: Job, taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hide communication behind the compute it can run beside: all together never more than that compute takes.

    `taken`: seconds of the products beside which something hides already; returns those of all compute then.

    The exchange of heads stands between projection and attention and hides behind neither (arXiv 2309.14509).
    """
    overlap = job.stack.overlap
    room = {MATMUL: parts[MATMUL] - taken, ATTENTION: parts[ATTENTION].copy()}
    for row, beside_it, beside in (
        (TENSOR, overlap.tensor.value * parts[TENSOR], MATMUL),
        (CONTEXT, overlap.context.value * parts[CONTEXT], ATTENTION),
    ):
        hidden = np.minimum(beside_it, room[beside])
        parts[row] -= hidden
        taken = taken + hidden
    return taken


def hide_exchange(
    forward: Parts,
    backward: Parts,
    exchanged: dict[str, NDArray[np.float64]],
    taken: dict[str, NDArray[np.float64]],
) -> None:
    """Hide the exchange of tokens behind the other pass of another microbatch: that of a forward pass behind the
    compute of a backward pass and the other way round (DeepSeek-V3, arXiv 2412.19437 section 3.2.1).

    `exchanged`: seconds of expert messages that the stack runs so; `taken`: of compute beside which others hide.
    """
    compute = [MATMUL, ATTENTION, ELEMENTWISE]
    for parts, phase, others, other in (
        (forward, "forward", backward, "backward"),
        (backward, "backward", forward, "forward"),
    ):
        parts[EXPERT] -= np.minimum(exchanged[phase], summed(others[compute]) - taken[other])
