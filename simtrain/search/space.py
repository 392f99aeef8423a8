"""The space of layouts of a job: every legal combination of its axes, a block of plans at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.job import Job
from simtrain.spec.memory_policy import Action
from simtrain.spec.placement import OFFLOAD, PLACE_OF, PLACES
from simtrain.spec.plan import COLUMNS, PlanTable
from simtrain.spec.schedule import SCHEDULES, TRAITS, Schedule
from simtrain.workload.rule import Rule
from simtrain.workload.strategies import context, expert, mesh, offload, pipeline, recompute, sharding, tensor

STRATEGIES: Final = (mesh, tensor, context, expert, pipeline, sharding, recompute, offload)
RULES: Final[tuple[Rule, ...]] = tuple(rule for strategy in STRATEGIES for rule in strategy.RULES)
LARGEST_MICRO_BATCH: Final = 32
RECOMPUTED_QUARTERS: Final = (1, 2, 3)
"""Partial recomputation is tried for these quarters of a stage's layers."""
BLOCK: Final = 1 << 15
"""Plans evaluated at a time: a block's columns stay in the cache."""
ROW: Final = "row"
"""Beside the columns of plans: the outer row each is behind."""
Columns = dict[str, NDArray[np.int64]]


@dataclass
class Tally:
    """Candidates seen and why the others were dropped."""

    enumerated: int = 0
    legal: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Count another tally in."""
        self.enumerated += other.enumerated
        self.legal += other.legal
        for name, count in other.rejected.items():
            self.rejected[name] = self.rejected.get(name, 0) + count


class _Probe(PlanTable):
    """A one-row table that notes which columns a rule reads."""

    def __getattribute__(self, name: str) -> object:
        if name in COLUMNS:
            object.__getattribute__(self, "__dict__").setdefault("read", set()).add(name)
        return object.__getattribute__(self, name)


def columns_read(job: Job, rule: Rule) -> frozenset[str]:
    """Columns a rule depends on."""
    probe = _Probe(**{name: np.ones(1, dtype=np.int64) for name in COLUMNS})
    probe.__dict__["read"] = set()
    rule.holds(job, probe)
    return frozenset(probe.__dict__["read"])


def divisors(number: int) -> list[int]:
    """All divisors in ascending order."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def powers(largest: int) -> list[int]:
    """Powers of two up to `largest`."""
    return [1 << i for i in range(largest.bit_length()) if 1 << i <= largest]


def orders(job: Job) -> list[tuple[Schedule, int]]:
    """The stack's schedules, each with the chunks a stage may have."""
    return [
        (name, chunks)
        for name in job.stack.schedules
        for chunks in divisors(job.model.layers)
        if TRAITS[name].chunks[0] <= chunks <= TRAITS[name].chunks[1] and chunks % TRAITS[name].chunks[2] == 0
    ]


def placements(job: Job, allowed: Sequence[Action] = ()) -> list[str]:
    """Where states may be: what searches try of the stack, and of what it offers besides all that is `allowed`."""
    tiers = {place for place in PLACES if place == "device" or place in allowed}
    asked = [
        name for name in job.stack.offload_asked if {PLACES[place] for place in PLACE_OF[OFFLOAD.index(name)]} <= tiers
    ]
    return ["none", *job.stack.offload, *asked]


class Space:
    """Axes of a job. Outer axes (mesh, batches) are expanded once; `blocks` expands the rest and keeps the legal."""

    def __init__(self, job: Job, offload: Sequence[str] | None = None):
        self.job = job
        tried = placements(job) if offload is None else offload
        self.tally = Tally()
        self._reads = {rule.name: columns_read(job, rule) for rule in RULES}
        model, devices = job.model, job.devices
        experts = model.experts.count if model.experts else 1
        degrees = np.array(divisors(devices))
        ring = [d for d in divisors(devices) if d == 1 or d * context.SHORTEST_CHUNK <= job.sequence]
        self._outer_axes: list[Columns] = [
            {"tp": degrees[degrees <= model.heads]},
            {"pp": degrees[degrees <= model.layers]},
            {"cp_ring": np.array(ring)},
            {"cp_head": np.array([d for d in ring if d <= model.heads])},
            {"ep": np.array([d for d in divisors(experts) if d <= devices])},
            {"etp": degrees[degrees <= model.heads] if model.experts else np.array([1])},
            {"sp": np.array([0, 1])},
            {"global_batch": np.array(job.global_batch)},
            {"micro_batch": np.array(powers(min(LARGEST_MICRO_BATCH, max(job.global_batch))))},
        ]
        self._inner_axes: list[Columns] = [
            self._schedules(),
            {"zero": np.array(job.stack.sharding)},
            {"shard": np.array([0, 1])},
            self._recomputation(),
            {"offload": np.array([OFFLOAD.index(name) for name in tried])},
        ]
        self.inner_size = int(np.prod([len(next(iter(axis.values()))) for axis in self._inner_axes]))
        self._outer = self._expand_outer()
        self._outer[ROW] = np.arange(len(self._outer["tp"]))

    def _schedules(self) -> Columns:
        """The stack's schedules, each with the chunks it may have."""
        pairs = [(SCHEDULES.index(name), chunks) for name, chunks in orders(self.job)]
        return {"schedule": np.array([p[0] for p in pairs]), "vpp": np.array([p[1] for p in pairs])}

    @staticmethod
    def _recomputation() -> Columns:
        pairs = [(mode, 0) for mode in (recompute.NONE, recompute.SELECTIVE, recompute.FULL)]
        pairs += [(mode, q) for mode in (recompute.NONE, recompute.SELECTIVE) for q in RECOMPUTED_QUARTERS]
        return {"recompute": np.array([p[0] for p in pairs]), "quarter": np.array([p[1] for p in pairs])}

    def _expand_outer(self) -> Columns:
        columns: Columns = {"tp": np.ones(1, dtype=np.int64)}
        known: set[str] = set()
        for axis in self._outer_axes:
            columns = _product(columns, axis)
            known |= set(axis)
            if known >= {"tp", "pp", "cp_ring", "cp_head"} and "dp" not in known:
                product = columns["tp"] * columns["pp"] * columns["cp_ring"] * columns["cp_head"]
                columns["dp"] = np.maximum(self.job.devices // product, 1)
                known.add("dp")
            new = set(axis) | ({"dp"} if "cp_head" in axis else set())
            columns = self._legal(columns, known, new, self._rest(axis), self.tally)
        return columns

    def _rest(self, axis: Columns) -> int:
        """Candidates behind one row at this point of the outer expansion: the product of the axes still to come."""
        position = next(i for i, other in enumerate(self._outer_axes) if other is axis)
        outer = [len(next(iter(a.values()))) for a in self._outer_axes[position + 1 :]]
        return int(np.prod(outer, initial=1)) * self.inner_size

    def chunks(self) -> list[slice]:
        """Slices of the outer rows whose expansion gives about one block of plans."""
        step = max(1, BLOCK * 4 // self.inner_size)
        return [slice(start, start + step) for start in range(0, len(self._outer["tp"]), step)]

    @property
    def outer(self) -> PlanTable:
        """Meshes and batches that are legal so far, the rest as plain as can be."""
        rows = len(self._outer["tp"])
        zero, one = np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=np.int64)
        plain = dict.fromkeys(COLUMNS, zero) | {"vpp": one, "shard_group": one}
        return PlanTable(**{name: self._outer.get(name, plain[name]) for name in COLUMNS})

    def block(self, chunk: slice) -> tuple[PlanTable, Tally]:
        """The legal plans behind these outer rows, and what was dropped on the way."""
        plans, _, tally = self.behind(chunk)
        return plans, tally

    def behind(self, chunk: slice | NDArray[np.int64]) -> tuple[PlanTable, NDArray[np.int64], Tally]:
        """The legal plans behind these outer rows, the outer row of each, and what was dropped on the way."""
        tally = Tally()
        columns = {name: column[chunk] for name, column in self._outer.items()}
        known = set(columns)
        behind = self.inner_size
        for axis in self._inner_axes:
            columns = _product(columns, axis)
            behind //= len(next(iter(axis.values())))
            new = set(axis)
            if "shard" in axis:
                columns, new = self._shard_group(columns), {"shard_group"}
            elif "quarter" in axis:
                columns, new = self._full_layers(columns), {"recompute", "full_layers"}
            elif "offload" in axis:
                columns = self._kept_where_asked(columns)
            known |= new
            columns = self._legal(columns, known, new, behind, tally)
        table = PlanTable(**{name: columns[name] for name in COLUMNS})
        tally.legal = len(table)
        return table, columns[ROW], tally

    def _shard_group(self, columns: Columns) -> Columns:
        """Shard over all data-parallel ranks (0) or only those of one scale-up domain (1, HSDP)."""
        group = columns["dp"] * columns["cp_ring"] * columns["cp_head"]
        near = np.clip(self.job.domain // columns["tp"], 1, group)
        hybrid = columns.pop("shard") == 1
        columns["shard_group"] = np.where(columns["zero"] == 0, 1, np.where(hybrid, near, group))
        repeated = hybrid & ((columns["zero"] == 0) | (near == group) | (near == 1))
        return {name: column[~repeated] for name, column in columns.items()}

    def _full_layers(self, columns: Columns) -> Columns:
        """Quarters of a stage's layers as a number of layers; quarters that round to the same number count once."""
        quarter = columns.pop("quarter")
        layers = self.job.model.layers // columns["pp"]
        columns["full_layers"] = -(-quarter * layers // 4)
        repeated = (quarter > 0) & (columns["full_layers"] == -(-(quarter - 1) * layers // 4))
        return {name: column[~repeated] for name, column in columns.items()}

    def _kept_where_asked(self, columns: Columns) -> Columns:
        """Placements that are allowed beside the stack's own are tried with everything kept: memory plans, which are
        allowed with them, choose what is made again."""
        own = [OFFLOAD.index(name) for name in ("none", *self.job.stack.offload)]
        again = (columns["recompute"] != recompute.NONE) | (columns["full_layers"] > 0)
        repeated = again & ~np.isin(columns["offload"], own)
        return columns if not repeated.any() else {name: column[~repeated] for name, column in columns.items()}

    def _legal(self, columns: Columns, known: set[str], new: set[str], behind: int, tally: Tally) -> Columns:
        """Apply every rule whose columns became complete with `new`; count each dropped row once, at its first rule."""
        rows = len(columns["tp"])
        table = PlanTable(**{name: columns.get(name, np.ones(rows, dtype=np.int64)) for name in COLUMNS})
        keep = np.ones(rows, dtype=bool)
        for rule in RULES:
            reads = self._reads[rule.name]
            if reads <= known and (reads & new or (not reads and "tp" in new)):
                holds = np.broadcast_to(rule.holds(self.job, table), rows)
                dropped = int((keep & ~holds).sum())
                if dropped:
                    tally.rejected[rule.name] = tally.rejected.get(rule.name, 0) + dropped * behind
                keep &= holds
        return columns if keep.all() else {name: column[keep] for name, column in columns.items()}

    def blocks(self) -> Iterator[tuple[PlanTable, Tally]]:
        """All legal plans, a block at a time."""
        for chunk in self.chunks():
            yield self.block(chunk)


def _product(columns: Columns, axis: Columns) -> Columns:
    """Every row of `columns` with every row of `axis`; the axis varies fastest."""
    rows, width = len(next(iter(columns.values()))), len(next(iter(axis.values())))
    kept = {name: np.repeat(column, width) for name, column in columns.items() if name not in axis}
    return kept | {name: np.tile(values, rows) for name, values in axis.items()}


def legal(job: Job, plans: PlanTable) -> NDArray[np.bool_]:
    """Which plans keep every rule."""
    keep = np.ones(len(plans), dtype=bool)
    for rule in RULES:
        keep &= rule.holds(job, plans)
    return keep


def broken_rules(job: Job, plans: PlanTable) -> list[list[Rule]]:
    """For each plan, the rules it breaks."""
    holds = [np.broadcast_to(rule.holds(job, plans), len(plans)) for rule in RULES]
    return [[rule for rule, mask in zip(RULES, holds, strict=True) if not mask[row]] for row in range(len(plans))]
