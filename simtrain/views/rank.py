"""A rank of a replayed step, in words."""

from simtrain.timeline.step import Step


def name(step: Step, rank: int) -> str:
    """`stage 3`, and the replica where there are several."""
    replica, stage = divmod(rank, step.order.stages)
    if step.graph.ranks == step.order.stages:
        return f"stage {stage}"
    number = replica if step.slowdown is None else step.slowdown.replica[replica]
    return f"replica {number} stage {stage}"
