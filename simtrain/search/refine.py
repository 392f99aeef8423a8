"""Finer steps around the best plans: what the space takes in coarse ones."""

from simtrain.search.space import LARGEST_MICRO_BATCH, divisors, legal, orders
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable


def neighbours(job: Job, plans: PlanTable) -> PlanTable:
    """Legal plans that differ from one of `plans` in the microbatch and the layers recomputed, in the shard group, or
    in the schedule.

    Every divisor of a rank's sequences as microbatch (the space: powers of two), every number of layers (quarters),
    every divisor of the data-parallel ranks as shard group (all, or one domain), every schedule and number of chunks.
    """
    found = [plan for row in range(len(plans)) for plan in _around(job, plans.plan(row))]
    table = PlanTable.of(found)
    return table.take(legal(job, table)) if found else table


def _around(job: Job, plan: Plan) -> list[Plan]:
    partial = plan.recompute != "full"
    layers = range(job.model.layers // plan.pp) if partial else (0,)
    batches = [d for d in divisors(plan.global_batch // plan.dp) if d <= LARGEST_MICRO_BATCH]
    around = [plan.model_copy(update={"micro_batch": b, "full_layers": k}) for b in batches for k in layers]
    if plan.zero:
        groups = divisors(plan.dp * plan.cp_ring * plan.cp_head)
        around += [plan.model_copy(update={"shard_group": group}) for group in groups if group > 1]
    if plan.pp > 1:
        around += [plan.model_copy(update={"schedule": name, "vpp": chunks}) for name, chunks in orders(job)]
    return around
