"""What one rank holds of one microbatch and one layer, for every plan of a table."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable
from simtrain.workload.op import Elementwise, Op, Values, both_ways

Array = NDArray[np.float64]
VOCABULARY_MULTIPLE: Final = 128
"""Entries of a tensor rank's vocabulary come in multiples of this where it is padded (Megatron-LM's default
make-vocab-size-divisible-by)."""


@dataclass(frozen=True)
class Shard:
    """Local sizes under tensor, sequence, context and expert parallelism; arrays of shape (plans,)."""

    job: Job
    plans: PlanTable

    @cached_property
    def tokens(self) -> Array:
        """Positions of a microbatch in a tensor-parallel region (split over the context axis only)."""
        return self.plans.micro_batch * self.job.sequence / self.plans.cp

    @cached_property
    def sequence_tokens(self) -> Array:
        """Positions in the regions sequence parallelism splits further (norms, residuals)."""
        return self.tokens / np.where(self.plans.sp == 1, self.plans.tp, 1)

    @cached_property
    def narrowed_tokens(self) -> Array:
        """Positions whose hidden state is narrowed for a product: a rank's own where it is gathered after that."""
        return self.sequence_tokens if self.job.precision.tensor_gather_bytes is None else self.tokens

    @cached_property
    def hidden_size(self) -> Array:
        """Bytes of the hidden state of `tokens` positions."""
        return self.tokens * self.job.model.hidden * self.job.precision.activation_bytes

    def narrowed(self, name: str, entering: Values, leaving: Values) -> tuple[Op, ...]:
        """Passes that narrow what enters a product (elements) and, backward, the gradient of what leaves it.

        Each is narrowed once a microbatch and read by two products; weights once a step (NVIDIA Transformer Engine).
        """
        size = self.job.precision.quantise_bytes * (1 - self.job.precision.wide_layers)
        if not size:
            return ()
        moved = Elementwise(size * np.asarray(entering), size * np.asarray(leaving))
        return both_ways(f"{name} narrowed", "projection", moved)

    @cached_property
    def heads(self) -> Array:
        """Query heads of a rank during projections."""
        return self.job.model.heads / self.plans.tp

    @cached_property
    def kv_heads(self) -> Array:
        """Key and value heads of a rank; replicated when there are fewer than tensor ranks."""
        return np.maximum(self.job.model.kv_heads / self.plans.tp, 1.0)

    @cached_property
    def vocabulary(self) -> Array:
        """Columns of the head on a tensor rank, padded as the stack does."""
        padding = self.job.stack.vocabulary_padding.value
        padded = (self.plans.tp > 1) & (padding == "when split") | (padding == "always")
        multiple = np.where(padded, VOCABULARY_MULTIPLE, 1)
        return np.ceil(self.job.model.vocabulary / (self.plans.tp * multiple)) * multiple

    @cached_property
    def expert_rows(self) -> Array:
        """Token copies each local expert works on when routing is balanced.

        An expert group (etp x ep ranks) holds `tokens / tp` positions a rank, each sent to top_k experts.
        """
        experts = self.job.model.experts
        if experts is None:
            return np.zeros(len(self.plans))
        group = self.tokens / self.plans.tp * self.plans.ep * self.plans.etp
        return group * experts.top_k / experts.count
