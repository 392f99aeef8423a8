"""What a device's streams did in a step, from torch.profiler's events: seconds of each, communication nothing hid."""

import re

COMMUNICATION = r"nccl|AllReduce|AllGather|ReduceScatter|SendRecv|AlltoAll"
"""In names of kernels that send."""


def streams(events, steps):
    """Seconds a step of every stream's kernels, and of those that send while no other kernel runs."""
    import torch

    kernels = [
        event
        for event in events
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]
    found, sent, other = {}, [], []
    for event in kernels:
        span = (event.time_range.start, event.time_range.end)
        name = str(getattr(event, "device_resource_id", 0))
        found.setdefault(name, []).append(span)
        (sent if re.search(COMMUNICATION, event.name, re.IGNORECASE) else other).append(span)
    busy = {name: covered(spans) / 1e6 / steps for name, spans in found.items()}
    exposed = covered([*sent, *other]) - covered(other)
    return {"stream_busy_s": busy, "exposed_communication_s": exposed / 1e6 / steps}


def covered(spans):
    """Length of what some span covers; spans are (start, end)."""
    total, last = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, last), 0.0)
        last = max(last, end)
    return total
