"""The device a rank runs on: how to wait for it, time it, say what it is. torch only."""

import datetime
import os
import platform
import socket
import statistics
import time

import torch
import torch.distributed as dist
from sensors import Sensors

OLDEST_TORCH = (2, 11)
QUOTA = "/sys/fs/cgroup/cpu.max"
"""Microseconds of processors a period, and the period, of this process's control group."""
WINDOW = {"cpu": 0.02, "cuda": 0.005}
"""Seconds of one timed batch of calls."""


class Machine:
    """One rank's device: `cpu` with gloo or `cuda` with nccl."""

    def __init__(self, kind, backend=None):
        self.kind = kind
        self.backend = backend or ("nccl" if kind == "cuda" else "gloo")
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = kind == "cuda"
        if cuda:
            torch.cuda.set_device(local)
            self.device = torch.device("cuda", local)
        else:
            self.device = torch.device("cpu")
        self.share(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        self.sensors = Sensors(getattr(torch.cuda.get_device_properties(local), "uuid", None), local) if cuda else None

    def share(self, ranks):
        """Take an equal part of the processors, as one of so many ranks of this node."""
        torch.set_num_threads(max(1, processors() // ranks))

    def agreed(self, number):
        """Rank 0's whole number, on every rank."""
        if not (dist.is_initialized() and self.world > 1):
            return number
        told = torch.tensor([number], device=self.device)
        dist.broadcast(told, 0)
        return int(told.item())

    def join(self, timeout=300.0):
        """Start the process group; a rank that waits longer than `timeout` seconds for another gives up."""
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(_free_port()) if self.world == 1 else "29500")
        nccl = self.kind == "cuda" and self.backend == "nccl" and self.world > 1  # one rank alone never sends
        where = {"device_id": self.device} if nccl else {}
        dist.init_process_group(
            self.backend, rank=self.rank, world_size=self.world, timeout=datetime.timedelta(seconds=timeout), **where
        )

    def wait(self):
        """Until all that was launched has run."""
        if self.kind == "cuda":
            torch.cuda.synchronize()

    def together(self):
        """Until every rank is here."""
        self.wait()
        if dist.is_initialized() and self.world > 1:
            dist.barrier()

    def seconds(self, call, batches=5, calls=None):
        """(median, lowest, highest) seconds of one call, from `batches` of several calls each.

        On a processor without what other programs took of it.
        """
        call()
        self.together()
        if calls is None:
            begin = time.perf_counter()
            call()
            self.wait()
            once = time.perf_counter() - begin
            calls = max(1, min(200, int(WINDOW[self.kind] / max(once, 1e-7))))
        found = []
        for _ in range(batches):
            if self.kind == "cuda":
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                for _ in range(calls):
                    call()
                end.record()
                torch.cuda.synchronize()
                found.append(start.elapsed_time(end) / 1e3 / calls)
            else:
                begin, before = time.perf_counter(), held_off()
                for _ in range(calls):
                    call()
                held = held_off() - before
                found.append((time.perf_counter() - begin - held) / calls)
        return statistics.median(found), min(found), max(found)

    def described(self):
        """What a record says about where it was made."""
        facts = {
            "device": self.kind,
            "backend": self.backend,
            "ranks": self.world,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "date": datetime.date.today().isoformat(),
            "threads": torch.get_num_threads(),
            "processors": processors(),
            "host_memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "name": _processor(),
        }
        if self.kind == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            facts |= {
                "name": properties.name,
                "memory_bytes": properties.total_memory,
                "capability": list(torch.cuda.get_device_capability(self.device)),
                "multiprocessors": properties.multi_processor_count,
                "cuda": torch.version.cuda,
                "nccl": ".".join(map(str, torch.cuda.nccl.version())),
                "sensors": self.sensors.state(),
            }
        return facts


def processors():
    """Processors this process may use: its affinity, and the quota of its control group (Linux)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open(QUOTA, encoding="ascii") as file:
            quota, period = file.read().split()
        return count if quota == "max" else max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):
        return count


def held_off():
    """Seconds this thread was ready to run while other programs had the processor, so far (Linux, else 0)."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


def _free_port():
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _processor():
    """The model name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            named = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


def too_old():
    """A sentence if this torch is older than the scripts were written for, else ''."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version >= OLDEST_TORCH:
        return ""
    return f"torch {torch.__version__} is too old: these scripts need {'.'.join(map(str, OLDEST_TORCH))} or later"
