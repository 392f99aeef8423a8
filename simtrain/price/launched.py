"""Kernels the host launches for a block."""

from typing import Final

import numpy as np

from simtrain.spec.job import Job
from simtrain.spec.tensors import TensorName
from simtrain.workload.made import made
from simtrain.workload.op import Block, Elementwise, GroupedMatmul, Message, Phase, Values

LAYERS: Final = ("dense", "moe")
"""Blocks that are layers of the model."""
QUEUE: Final = 1000
"""Kernels a host may launch before the device runs them (measured: NVIDIA developer forum, thread 68937)."""


def launched(block: Block, job: Job, phase: Phase) -> Values:
    """Kernels the host launches for a layer: twice as many backward, and those of element-wise steps beyond one each.

    Of a mixture of experts also its routing and what runs for each expert. Embedding and head are not counted.
    """
    if block.name not in LAYERS:
        return 0
    counted: Values = job.stack.layer_kernels.value
    if block.name == "moe" and job.stack.experts is not None:
        grouped = next(op.work for op in block.ops if isinstance(op.work, GroupedMatmul))
        each = job.stack.experts.kernels_each.value * np.asarray(grouped.experts, float)
        counted = counted + job.stack.experts.kernels.value + each
    steps = (op.work.kernels - 1 for op in block.phase(phase) if isinstance(op.work, Elementwise))
    return counted * (1 if phase == "forward" else 2) + sum(steps, np.zeros(1))


def queued(block: Block, job: Job) -> Values:
    """Layers whose forward pass, collectives included, fills the queue of launches."""
    messages = sum((op.work.times * op.weight for op in block.phase("forward") if isinstance(op.work, Message)), 0.0)
    return QUEUE / (launched(block, job, "forward") + messages)


def launched_again(block: Block) -> dict[TensorName, Values]:
    """Share of a layer's forward launches that make each of its tensors: as many for each operation, and the further
    ones of element-wise steps."""
    counted: dict[TensorName | None, Values] = {}
    for op in block.phase("forward"):
        if not isinstance(op.work, Message):
            more = np.asarray(op.work.kernels, float) - 1 if isinstance(op.work, Elementwise) else 0.0
            counted[made(op)] = counted.get(made(op), 0.0) + op.weight * (1 + more)
    total = sum(counted.values(), np.zeros(1))
    return {tensor: part / total for tensor, part in counted.items() if tensor is not None}
