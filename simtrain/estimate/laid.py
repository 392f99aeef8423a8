"""One plan laid over its stages: the costs and bytes its replay is given."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.estimate.passes import Passes
from simtrain.estimate.treated import Treated
from simtrain.price.blocks import Machine
from simtrain.price.categories import ELEMENTWISE, LAUNCH, MATMUL
from simtrain.price.step import SyncTime
from simtrain.spec.job import Job
from simtrain.spec.schedule import HIDES
from simtrain.timeline.costs import NO_SECONDS, Costs, Traffic
from simtrain.timeline.footprint import Held
from simtrain.timeline.memory import CLASSES, Holdings
from simtrain.timeline.order import Order, folded, looped
from simtrain.timeline.schedules.pace import Pace
from simtrain.workload.program import Program
from simtrain.workload.strategies.pipeline import hop_leaves, splits
from simtrain.workload.strategies.recompute import full_share
from simtrain.workload.strategies.sharding import gathers_back, kept_whole, reduced_every, reduced_late, wire_bytes

Array = NDArray[np.float64]
MOST_BUCKETS: Final = 16
"""Pieces a stage's once-a-step traffic is replayed in at most; more would be finer than the figures."""


class Laid:
    """One plan of a Program, laid over its stages; `order`: one's own, which says where the chunks are."""

    def __init__(self, job: Job, described: Program, on: Machine, row: int, order: Order | None = None):
        self.job, self.row, self.domain = job, row, on.network.domain
        self.plans = described.plans
        self.part = described.stages
        self.rows = described.stages.spread.index
        count = described.stages.layout.count[:, self.rows[row]]
        self.stages = np.repeat(np.arange(len(count)), count.astype(np.int64))
        """The representative of every stage that holds something."""
        way = folded if self.plans.folded[row] else looped
        self.place = way(len(self.stages), int(self.plans.vpp[row]))
        if order is not None:
            self.place = self._of(order)

    def _of(self, order: Order) -> NDArray[np.int64]:
        """Where an order places the chunks; WrongInput where it is not one of this plan."""
        stages, chunks = self.place.shape
        microbatches = int(self.plans.microbatches[self.row])
        asked = {"stages": stages, "chunks a stage": chunks, "microbatches": microbatches}
        given = (*order.place.shape, order.microbatches)
        problems = [
            Problem(f"order: {name}", have, f"must be the plan's {want}", "draw it for this plan, or change the plan")
            for (name, want), have in zip(asked.items(), given, strict=True)
            if have != want
        ]
        if not problems:
            for end, position in (("first", 0), ("last", self.place.size - 1)):
                have, want = (int(np.argwhere(place == position)[0, 0]) for place in (order.place, self.place))
                if have != want:
                    rule = f"must be where the schedule has it, on stage {want}"
                    where = f"order: {end} chunk on stage"
                    problems.append(Problem(where, have, rule, "name a --schedule of its kind"))
        if problems:
            raise WrongInput(problems)
        return order.place

    def costs(
        self, blocks: Sequence[Passes], sync: SyncTime, messages: tuple[Array, Array], treated: Treated | None = None
    ) -> Costs:
        """Of one step; `blocks`: passes of layers, embedding and head, `messages`: inside a domain, and between two."""
        job, plans, row = self.job, self.plans, self.row
        stack, schedule = job.stack, plans.schedule[row]
        scale = 1.0 if job.own is None else job.own.factor.value
        forward, backward, weight = self._passes(blocks, sync.accumulation)
        host = np.zeros_like(forward)
        host[LAUNCH] = stack.microbatch_gap.value * self._layers()
        if len(self.stages) == 1:
            forward, host = forward + host, 0.0 * host
        out = back = NO_SECONDS
        if treated is not None:
            share = self._layers()
            forward = forward + treated.forward[:, :, None] * share
            backward = backward + treated.backward[:, :, None] * share
            backward[ELEMENTWISE] += (self.place == self.place.size - 1) * treated.loss_seconds
            out, back = (scale * seconds[:, None] * share for seconds in treated.copies)
        whole = bool(kept_whole(job, plans)[row])
        late = bool(reduced_late(job, plans)[row])
        gather, reduction, update = (
            self._of_stages(part, self.rows[row]) for part in (sync.gather, sync.reduction, sync.update)
        )
        rebuilt = full_share(plans, self.part.layout.layers[:, self.rows])[self.stages, row]
        if treated is not None:
            rebuilt = treated.gathered_again
        turns = 2 if stack.exchanged_in_turn.value else 1
        apart = bool(splits(plans)[row])
        hidden = 1.0 if apart else stack.overlap.pipeline.value if HIDES[schedule] else 0.0
        return Costs(
            forward=scale * forward,
            backward=scale * backward,
            weight=scale * weight,
            hops=scale * self._hops(messages),
            hidden=scale * self._hidden(blocks),
            shown=turns * (1 - hidden),
            gather=Traffic(
                scale * self._shared(gather),
                stack.hidden("parameter_gathering"),
                bool(plans.zero[row] == 3) and not whole,
                scale * self._shared(gather * gathers_back(job, rebuilt)),
            ),
            reduction=Traffic(
                scale * self._shared(reduction),
                0.0 if late else stack.hidden("gradient_reduction"),
                bool(reduced_every(job, plans)[row]),
            ),
            buckets=self._buckets(),
            copies_out=out,
            copies_in=back,
            update=scale * update,
            tied=scale * float(sync.tied[self.rows[row]]),
            overhead=scale * stack.step_overhead.value,
            host=scale * host,
            synchronous=not (apart and stack.post_validation),
        )

    def pace(self, costs: Costs, waiting: float) -> Pace:
        """A chunk's in the mean, with what a host takes before its forward pass."""
        forward, _, backward, weight = costs.pass_seconds().mean(axis=(1, 2)).tolist()
        host = float(costs.host.sum(axis=0).mean())
        return Pace(forward + host, backward, weight, float(costs.hops.mean()), waiting)

    def held(self, held: Holdings, waiting: float, treated: Treated | None = None) -> Held:
        """Bytes on the stages."""
        stack, chunks = self.job.stack, self.place.shape[1]
        resident = np.zeros((len(CLASSES), len(self.stages)))
        for name, part in zip(("weights", "gradients", "optimizer"), held.states, strict=True):
            resident[CLASSES.index(name)] = self._of_stages(part, self.row)
        lost = stack.fragmentation.value
        for name, part in (("working set", held.gathered), ("buffers", held.buffers)):
            resident[CLASSES.index(name)] = self._of_stages(part, self.row)
            resident[CLASSES.index("fragmentation")] += lost * resident[CLASSES.index(name)]
        resident[CLASSES.index("reserve")] = stack.reserve.value
        activations, logits = self._of_stages(held.activations, self.row), self._of_stages(held.logits, self.row)
        waits = waiting * activations
        working = self._of_stages(held.working, self.row)
        if treated is not None:
            activations, working = treated.kept, treated.working
            logits = np.where(logits > 0, treated.loss, 0.0)
        activations, waits = (np.repeat(part[:, None] / chunks, chunks, axis=1) for part in (activations, waits))
        return Held(
            resident=resident,
            activations=activations,
            waiting=waits,
            logits=logits,
            working=working,
            lost=lost,
        )

    def _of_stages(self, part: Array, row: int) -> Array:
        """Of representatives and plans: this plan's stages, shape (stages,)."""
        return np.asarray(part[self.stages, row])

    def _shared(self, seconds: Array) -> Array:
        """Seconds of stages shared evenly by their chunks, shape (stages, chunks)."""
        chunks = self.place.shape[1]
        return np.repeat(seconds[:, None] / chunks, chunks, axis=1)

    def _passes(self, blocks: Sequence[Passes], accumulation: Array) -> tuple[Array, Array, Array]:
        """Forward, input-gradient and weight-gradient seconds, shape (categories, stages, chunks).

        Embedding and head stand at the two ends of the way.
        """
        places = self._places()
        forward, backward = (
            np.einsum("bks,bsc->ksc", [getattr(part, name)[:, self.stages, self.row] for part in blocks], places)
            for name in ("forward", "backward")
        )
        weight = np.zeros_like(backward)
        weight[MATMUL] = np.einsum("bs,bsc->sc", [part.weight[self.stages, self.row] for part in blocks], places)
        added = self._of_stages(accumulation, self.rows[self.row])[:, None] * self._layers()
        weight[MATMUL] -= added
        weight[ELEMENTWISE] += added
        return forward, backward - weight, weight

    def _hidden(self, blocks: Sequence[Passes]) -> Array:
        """Seconds of messages beside forward and backward passes, shape (2, categories, stages, chunks)."""
        parts = [part.hidden[:, :, self.stages, self.row] for part in blocks]
        return np.asarray(np.einsum("bdks,bsc->dksc", parts, self._places()))

    def _places(self) -> Array:
        """Share each chunk has of its stage's layers, of the embedding and of the head, shape (3, stages, chunks)."""
        return np.stack([self._layers(), self.place == 0, self.place == self.place.size - 1])

    def _layers(self) -> Array:
        """Share of its stage's layers that each chunk has, shape (stages, chunks).

        All chunks have as many, but for those at an end of the way, which have what is left.
        """
        chunks = self.place.shape[1]
        layers = self.part.layout.layers[self.stages, self.rows[self.row]][:, None]
        ends = (self.place == 0) | (self.place == self.place.size - 1)
        several = ends.sum(axis=1, keepdims=True)
        rest = layers - (chunks - several) * layers.max() / chunks
        held = np.where(ends, rest / np.maximum(several, 1), np.where(several > 0, layers.max(), layers) / chunks)
        return np.asarray(np.divide(held, layers, out=np.full(held.shape, 1 / chunks), where=layers > 0))

    def _hops(self, messages: tuple[Array, Array]) -> Array:
        """The slowest message from a rank of every stage to its like in the next, shape (stages,)."""
        inside, between = (float(part[self.row]) for part in messages)
        plans, row = self.plans, self.row
        ranks = int(plans.tp[row] * plans.cp[row] * plans.dp[row])
        leaves = hop_leaves(ranks, np.arange(len(self.stages)), self.domain)
        leaves[-1] = ranks * plans.pp[row] > self.domain
        return np.where(leaves, between, inside)

    def _buckets(self) -> int:
        """Buckets of a stage's gradients."""
        states = self.part.states
        largest = max(
            float(kind.trained[self.stages, self.rows[self.row]].max()) for kind in (states.dense, states.expert)
        )
        return int(np.clip(np.ceil(largest * wire_bytes(self.job) / self.job.stack.bucket.value), 1, MOST_BUCKETS))
