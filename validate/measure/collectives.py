"""Collectives over message sizes and group sizes, as nccl-tests counts them: bytes of the whole message."""

import time

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard


def collectives(machine, sizes, clock):
    """Rows of every collective over equal groups of 2, 4, ... and all ranks; every rank takes part in every call."""
    rows, failed = [], []
    powers = [2**power for power in range(1, machine.world.bit_length()) if machine.world % 2**power == 0]
    for count in sorted({*powers, machine.world}):
        groups = [dist.new_group(list(range(first, first + count))) for first in range(0, machine.world, count)]
        group = groups[machine.rank // count]
        for name, call_of in CALLS.items():
            try:
                for asked in sizes:
                    if clock():
                        continue
                    size = max(asked // (4 * count), 1) * 4 * count  # an equal part of whole elements for every rank
                    call = call_of(machine, size, count, group)
                    median, low, high = machine.seconds(call, batches=3, calls=_calls(machine, call))
                    row = {"collective": name, "gpus": count, "bytes": size}
                    rows.append(row | {"time_s": median, "low_s": low, "high_s": high})
            except (RuntimeError, NotImplementedError) as error:  # one that is not there costs its own rows
                failed.append(f"{name} of {count}: {error}".splitlines()[0])
    yield from _whole(rows, sizes)
    if failed:
        raise RuntimeError("; ".join(failed))


def _whole(rows, sizes):
    """The rows of groups whose every size was reached: curves have no gaps."""
    complete = {}
    for row in rows:
        complete.setdefault((row["collective"], row["gpus"]), []).append(row)
    return [row for kept in complete.values() if len(kept) == len(sizes) for row in kept]


def _calls(machine, call):
    """As many calls as every rank makes, by the time rank 0 takes for one."""
    call()
    machine.together()
    begin = time.perf_counter()
    call()
    machine.wait()
    return machine.agreed(max(1, min(100, int(0.02 / max(time.perf_counter() - begin, 1e-6)))))


def _floats(machine, size):
    return torch.ones(size // 4, device=machine.device)


def _all_reduce(machine, size, count, group):
    whole = _floats(machine, size)
    return lambda: dist.all_reduce(whole, group=group)


def _all_gather(machine, size, count, group):
    whole, part = _floats(machine, size), _floats(machine, size // count)
    if machine.kind == "cpu":
        return _placed(part, group, Shard(0), Replicate())
    return lambda: dist.all_gather_into_tensor(whole, part, group=group)


def _reduce_scatter(machine, size, count, group):
    whole, part = _floats(machine, size), _floats(machine, size // count)
    if machine.kind == "cpu":
        return _placed(whole, group, Partial(), Shard(0))
    return lambda: dist.reduce_scatter_tensor(part, whole, group=group)


def _placed(x, group, now, then):
    """The collective as DTensor calls it: on a processor the host's part of a call takes its time too."""
    mesh = DeviceMesh.from_group(group, "cpu")

    def call():
        out = DTensor.from_local(x, mesh, [now], run_check=False).redistribute(placements=[then]).to_local()
        return out.wait() if isinstance(out, AsyncCollectiveTensor) else out

    return call


def _all_to_all(machine, size, count, group):
    sent, received = _floats(machine, size), _floats(machine, size)
    return lambda: dist.all_to_all_single(received, sent, group=group)


def _point_to_point(machine, size, count, group):
    """Of the first two ranks of a group, one way; the third and later ranks stand by."""
    whole = _floats(machine, size)
    first = machine.rank // count * count
    place = machine.rank - first

    def call():
        if place == 0:
            dist.send(whole, first + 1)
        elif place == 1:
            dist.recv(whole, first)

    return call


CALLS = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "alltoall": _all_to_all,
    "point_to_point": _point_to_point,
}
