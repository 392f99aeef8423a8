"""A memory plan in torch: tensors of a layer made again (selective checkpointing) or moved to host memory meanwhile."""

import weakref
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

_making = [None]
_made = {}
"""Kind of every live tensor that a layer named, by the id of its storage."""


@contextmanager
def making(kind):
    """Operations inside make this kind of tensor (simtrain/spec/tensors.py)."""
    _making.append(kind)
    try:
        yield
    finally:
        _making.pop()


def named(kind, tensor):
    """The tensor, known as one of this kind as long as it lives."""
    storage = tensor.untyped_storage()
    key = id(storage)
    _made[key] = (kind, weakref.ref(storage, lambda _: _made.pop(key, None)))
    return tensor


def treatment(plan, stage, place, layers):
    """Kinds made again and kinds moved in layer `place` of the `layers` of a stage: the first are made again, the last
    moved."""
    found = next((part for part in plan["stages"] if part["first"] <= stage <= part["last"]), {"tensors": {}})
    tensors = found["tensors"].items()
    again = {kind for kind, how in tensors if place < how["recompute"]}
    return again, {kind for kind, how in tensors if place >= layers - how["offload"]}


def treated(layer, x, turn, again, moved):
    """A layer's output with its kept tensors treated so."""
    named("input", x)
    with _moving(moved) if moved else nullcontext():
        if not again:
            return layer(x, turn)
        context = partial(create_selective_checkpoint_contexts, partial(_policy, again))
        return checkpoint(layer, x, turn, use_reentrant=False, context_fn=context)


def _policy(again, context, operation, *args, **kwargs):
    return CheckpointPolicy.PREFER_RECOMPUTE if _making[-1] in again else CheckpointPolicy.MUST_SAVE


def _moving(kinds):
    """Saved tensors of these kinds wait in host memory for the backward pass."""

    def pack(tensor):
        kind, _ = _made.get(id(tensor.untyped_storage()), (None, None))
        if kind not in kinds:
            return tensor
        there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return tensor.device, there.copy_(tensor, non_blocking=True)

    def unpack(kept):
        return kept if isinstance(kept, torch.Tensor) else kept[1].to(kept[0], non_blocking=True)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
