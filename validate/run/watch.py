"""What a step sends and what it holds: every collective counted, every live tensor's bytes, operation by operation."""

import weakref
from collections import Counter
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KINDS = {
    "allreduce_": "all_reduce",
    "all_reduce": "all_reduce",
    "_allgather_base_": "all_gather",
    "all_gather_into_tensor": "all_gather",
    "_reduce_scatter_base_": "reduce_scatter",
    "reduce_scatter_tensor": "reduce_scatter",
    "alltoall_base_": "all_to_all",
    "all_to_all_single": "all_to_all",
    "send": "point_to_point",
}
_axis = ["data"]


@contextmanager
def axis(name):
    """Collectives inside belong to this axis of the mesh."""
    _axis.append(name)
    try:
        yield
    finally:
        _axis.pop()


class Watch(TorchDispatchMode):
    """Counts collectives by (axis, kind) and follows the bytes of all live storages on one device."""

    def __init__(self, device, held):
        super().__init__()
        self.device, self.storages = device, {}
        self.peak = 0
        self.calls, self.bytes = Counter(), Counter()
        for tensor in held:
            self._follow(tensor)
        self.peak = self._total()

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = call(*args, **kwargs)
        space, _, name = call._schema.name.partition("::")
        if space in ("c10d", "_c10d_functional") and name in KINDS:
            self._count(space, name, args, out)
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf)
        self.peak = max(self.peak, self._total())
        return out

    def _count(self, space, name, args, out):
        kind = KINDS[name]
        where = "tensor" if space == "_c10d_functional" else _axis[-1]
        if kind == "point_to_point" and where != "context":
            where = "pipeline"
        tensors = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, torch.Tensor)]
        self.calls[where, kind] += 1
        self.bytes[where, kind] += max(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _follow(self, tensor):
        tensor = getattr(tensor, "_local_tensor", tensor)
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return
        if storage.device == self.device and id(storage) not in self.storages:
            key = id(storage)
            self.storages[key] = weakref.ref(storage, lambda _, key=key: self.storages.pop(key, None))

    def _total(self):
        live = (reference() for reference in list(self.storages.values()))
        return sum(storage.nbytes() for storage in live if storage is not None)

    def messages(self):
        """Rows of the record: axis, collective, count, bytes of one rank and step."""
        return [
            {"axis": where, "collective": kind, "count": count, "bytes": self.bytes[where, kind]}
            for (where, kind), count in sorted(self.calls.items())
        ]
