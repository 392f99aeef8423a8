"""A rank of a replayed step, in words."""

from simtrain.timeline.step import Step


def name(step: Step, rank: int) -> str:
    """`stage 3`, and the replica where there are several."""
    replica, stage = divmod(rank, step.order.stages)
    return f"stage {stage}" if step.graph.ranks == step.order.stages else f"replica {replica} stage {stage}"
