"""A Program: what one step of every plan holds, in operations, bytes and messages; no seconds.

Among many plans the distinct layer shapes are few. A Program therefore describes each part over the distinct rows
of the columns that part depends on, with the index that spreads it over all plans again.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.plan import PlanTable
from simtrain.workload import blocks, ends
from simtrain.workload.op import Block
from simtrain.workload.shard import Shard
from simtrain.workload.strategies.pipeline import Layout, layout
from simtrain.workload.strategies.sharding import States, states

LAYER_COLUMNS = ("tp", "sp", "cp_ring", "cp_head", "ep", "etp", "micro_batch")
STATE_COLUMNS = ("tp", "cp_ring", "cp_head", "pp", "ep", "etp", "dp", "zero", "shard_group", "folded", "offload")


@dataclass(frozen=True)
class Spread:
    """Distinct rows of some columns, and for every plan the row that is its own."""

    rows: PlanTable
    index: NDArray[np.int64]


T = TypeVar("T")


def distinct(plans: PlanTable, columns: tuple[str, ...]) -> Spread:
    """The distinct rows of `plans` in these columns (other columns: those of the first such plan)."""
    code = np.zeros(len(plans), dtype=np.int64)
    if not len(plans):
        return Spread(plans, code)
    size = 1
    for name in columns:
        column = getattr(plans, name)
        low, high = int(column.min()), int(column.max())
        span = high - low + 1
        if span == 1:
            continue
        if size * span > 2**62:
            code = np.unique(code, return_inverse=True)[1]
            size = int(code.max()) + 1
        code = code * span + (column - low)
        size *= span
    _, first, index = np.unique(code, return_index=True, return_inverse=True)
    return Spread(plans.take(first), index)


@dataclass(frozen=True)
class LayerPart:
    """Blocks over the distinct layer shapes; `dense` or `moe` is None when the model has no such layer."""

    spread: Spread
    dense: Block | None
    moe: Block | None
    embedding: Block
    head: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks the model has."""
        return tuple(b for b in (self.dense, self.moe, self.embedding, self.head) if b is not None)


@dataclass(frozen=True)
class StatePart:
    """Stages and states over the distinct ways to shard them; stage arrays have shape (representatives, rows)."""

    spread: Spread
    layout: Layout
    states: States


@dataclass(frozen=True)
class Program:
    """One step of every plan of a table."""

    job: Job
    plans: PlanTable
    fused_attention: bool
    layers: LayerPart
    stages: StatePart
    hop_size: NDArray[np.float64]
    """Bytes a rank sends the next stage of one microbatch, 0 without a pipeline; shape (plans,)."""


def program(job: Job, plans: PlanTable, fused_attention: bool) -> Program:
    """Build the Program of every plan; `fused_attention`: whether the device and stack run a fused kernel."""
    shapes = distinct(plans, LAYER_COLUMNS)
    shard = Shard(job, shapes.rows)
    model = job.model
    sharded = distinct(plans, STATE_COLUMNS if not model.prediction_modules else (*STATE_COLUMNS, "vpp"))
    held = layout(job, sharded.rows)
    whole = Shard(job, plans)
    split = (plans.sp == 1) | job.stack.scatter_gather.value
    per_rank = np.where(split, whole.hidden_size / plans.tp, whole.hidden_size)
    return Program(
        job=job,
        plans=plans,
        fused_attention=fused_attention,
        layers=LayerPart(
            spread=shapes,
            dense=blocks.layer(shard, False, fused_attention) if model.moe_layers < model.layers else None,
            moe=blocks.layer(shard, True, fused_attention) if model.moe_layers else None,
            embedding=ends.embedding(shard),
            head=ends.head(shard),
        ),
        stages=StatePart(sharded, held, states(job, sharded.rows, held)),
        hop_size=np.where(plans.pp > 1, per_rank, 0.0),
    )
