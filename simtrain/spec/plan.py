"""How a job is laid out on its devices: one Plan for people, a PlanTable (a column a field) for the search."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, NonNegativeInt, PositiveInt, model_validator

from simtrain.spec.base import Spec
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.placement import OFFLOAD, placement
from simtrain.spec.schedule import FOLDED, SCHEDULES, Schedule

RECOMPUTE = ("none", "selective", "full")


class Plan(Spec):
    """One layout. Ranks are ordered tensor fastest, then context, data, pipeline (Megatron-LM's order)."""

    tp: PositiveInt = 1
    sp: bool = False
    cp_ring: PositiveInt = 1
    cp_head: PositiveInt = 1
    """Context degree split over heads (Ulysses); the rest, over the sequence, is the ring."""
    pp: PositiveInt = 1
    vpp: PositiveInt = 1
    """Chunks (virtual stages) a stage."""
    ep: PositiveInt = 1
    etp: PositiveInt = 1
    """Tensor degree inside an expert."""
    dp: PositiveInt = 1
    zero: Literal[0, 1, 2, 3] = 0
    """Row of the state table: 1 shards optimizer states, 2 gradients too, 3 parameters too (FSDP)."""
    shard_group: PositiveInt = 1
    """Ranks a sharded state is spread over, out of dp x cp (fewer: HSDP)."""
    schedule: Schedule = "1f1b"
    micro_batch: PositiveInt = 1
    global_batch: PositiveInt = 1
    recompute: Literal["none", "selective", "full"] = "none"
    full_layers: NonNegativeInt = 0
    """Layers a stage fully recomputed whatever `recompute` says ("full": all of them)."""
    offload: Annotated[str, AfterValidator(placement)] = "none"
    """States off the device (spec.placement): `optimizer`, what it needs (moments, master weights, gradients) in host
    memory, `all`, the weights too, or each where it is, as in `weights=cpu,optimizer=nvme`."""
    memory: MemoryPlan | None = None
    """Treatment of activations tensor by tensor; None: `recompute` and `full_layers` say it all."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.memory is not None and (self.recompute != "none" or self.full_layers):
            raise ValueError("recompute must be none and full_layers 0 beside a memory plan, which says it all")
        return self


Column = NDArray[np.int64]


@dataclass(frozen=True)
class PlanTable:
    """Many plans: integer columns of equal length, a row a candidate; without memory plans.

    `schedule`, `recompute` and `offload` hold indices into SCHEDULES, RECOMPUTE and OFFLOAD, `sp` 0 or 1.
    """

    tp: Column
    sp: Column
    cp_ring: Column
    cp_head: Column
    pp: Column
    vpp: Column
    ep: Column
    etp: Column
    dp: Column
    zero: Column
    shard_group: Column
    schedule: Column
    micro_batch: Column
    global_batch: Column
    recompute: Column
    full_layers: Column
    offload: Column

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def cp(self) -> Column:
        """Context degree."""
        return self.cp_ring * self.cp_head

    @property
    def folded(self) -> Column:
        """1 where the pipeline turns back at its last stage, so that the first holds both ends of the model."""
        return FOLDED[self.schedule].astype(np.int64)

    @property
    def microbatches(self) -> Column:
        """Microbatches a pipeline runs in a step."""
        return self.global_batch // (self.dp * self.micro_batch)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The same columns at some rows (indices or mask)."""
        return type(self)(**{name: column[rows] for name, column in vars(self).items()})

    def keeping(self) -> Self:
        """The same plans, with nothing recomputed."""
        none = np.zeros_like(self.recompute)
        return replace(self, recompute=none, full_layers=none)

    def plan(self, row: int) -> Plan:
        """One row as a Plan."""
        values = {name: int(column[row]) for name, column in vars(self).items()}
        return Plan.model_validate(
            values
            | {
                "sp": bool(values["sp"]),
                "schedule": SCHEDULES[values["schedule"]],
                "recompute": RECOMPUTE[values["recompute"]],
                "offload": OFFLOAD[values["offload"]],
            }
        )

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Self:
        """A table of these plans."""
        rows = [
            plan.model_dump()
            | {
                "schedule": SCHEDULES.index(plan.schedule),
                "recompute": RECOMPUTE.index(plan.recompute),
                "offload": OFFLOAD.index(plan.offload),
            }
            for plan in plans
        ]
        return cls(**{name: np.array([int(row[name]) for row in rows], dtype=np.int64) for name in COLUMNS})

    @classmethod
    def concatenate(cls, tables: Sequence["PlanTable"]) -> Self:
        """The rows of several tables, in order."""
        return cls(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS})


COLUMNS = tuple(PlanTable.__dataclass_fields__)
