"""How a run of the worker went, from what its ranks recorded and its launcher said; what is compared of it."""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from jobs import job

from simtrain.spec.library import path_of
from simtrain.spec.plan import Plan
from simtrain.validation.compare import EXPOSED, compared
from simtrain.validation.launch import Ended
from simtrain.validation.predict import predict
from simtrain.validation.runs import judged
from simtrain.validation.worker import worker_job

RESET = {"rank": 0, "status": "failed", "why": "RuntimeError: Connection reset by peer"}
FULL = {"rank": 1, "status": "out of memory", "why": "tried to allocate 2 GiB"}
SAID = (
    "[rank1]: ImportError: cannot import name 'fully_shard'",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
    "  error_file: <N/A>",
)


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of validate/, which is forgotten again."""
    monkeypatch.syspath_prepend(str(path_of("validate")))
    before = set(sys.modules)
    found = importlib.import_module(name)
    for new in set(sys.modules) - before:
        monkeypatch.delitem(sys.modules, new)
    return found


@pytest.mark.parametrize(
    ("ended", "parts", "why"),
    [
        (Ended(1, ("Signal 9 (SIGKILL) received by PID 7",)), [RESET], "a rank was killed"),
        (Ended(1, ("Signal 9 (SIGKILL) received by PID 7",)), [RESET, FULL], "rank 1: tried to allocate"),
        (Ended(1, ()), [RESET], "rank 0: RuntimeError"),
        (Ended(None, ()), [RESET], "took too long"),
        (Ended(1, SAID), [], "cannot import name 'fully_shard'"),
        (Ended(1, ("torch sees no CUDA device here", *SAID[1:])), [], "sees no CUDA"),
    ],
)
def test_the_first_cause_is_named(ended: Ended, parts: list, why: str) -> None:
    status, said, _ = judged(ended, parts)
    assert status == ("out of memory" if FULL in parts else "failed")
    assert why in said


def event(name: str, begin: float, end: float, stream: int) -> SimpleNamespace:
    span = SimpleNamespace(start=begin, end=end)
    device = torch.autograd.DeviceType.CUDA
    return SimpleNamespace(name=name, device_type=device, device_resource_id=stream, time_range=span)


def test_communication_that_nothing_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """In microseconds, of two steps: sent from 50 to 150 and 300 to 350, computed from 0 to 100; and a row of it."""
    events = [event("gemm", 0, 100, 7), event("ncclKernel_AllReduce", 50, 150, 9), event("nccl_SendRecv", 300, 350, 9)]
    events.append(SimpleNamespace(name="aten::mm", device_type=torch.autograd.DeviceType.CPU))
    found = script("run.streams", monkeypatch).streams(events, 2)
    assert found["exposed_communication_s"] == pytest.approx(50e-6)
    assert found["stream_busy_s"] == pytest.approx({"7": 50e-6, "9": 75e-6})
    asked = worker_job(job("llama-3-8b", gpus=8))
    rank = {"rank": 0, "stage": 0, "step_times_s": [1.0], "operators": []} | found
    rows = compared(predict(asked, Plan(tp=2, sp=True, dp=4, global_batch=16)), [rank])
    (row,) = [row for row in rows if row.name == EXPOSED]
    assert row.measured == pytest.approx(50e-6)


def test_what_an_allocator_says_of_a_run_that_ran_out_is_compared() -> None:
    asked = worker_job(job("llama-3-8b", gpus=8))
    held = {"peak_allocated_bytes": 7e9, "peak_reserved_bytes": 8e9, "device_bytes": 80e9}
    rank = {"rank": 0, "stage": 0, "step_times_s": [], "status": "out of memory", "memory": held}
    rows = {row.name: row.measured for row in compared(predict(asked, Plan(dp=8, global_batch=16)), [rank])}
    assert (rows["allocated"], rows["reserved"]) == (7e9, 8e9)


@pytest.mark.parametrize(("quota", "count"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1)])
def test_processors_are_those_this_process_may_use(
    quota: str, count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = script("machine", monkeypatch)
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(machine, "QUOTA", str(tmp_path / "cpu.max"))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert machine.processors() == count
