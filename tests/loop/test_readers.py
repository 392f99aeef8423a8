"""Outputs of nccl-tests and of torch.profiler; the worker's own tracker beside torch's."""

import sys
from pathlib import Path

import pytest

from simtrain.errors import WrongInput
from simtrain.validation import nccl_tests_output, torch_trace

NCCL = """# nThread 1 nGpus 2 minBytes 8 maxBytes 134217728 step: 2(factor) warmup iters: 5 iters: 20
# Using devices
#  Rank  0 Group  0 Pid  11 on  node0 device  0 [0x07] NVIDIA H100 80GB HBM3
#  Rank  1 Group  0 Pid  11 on  node0 device  1 [0x0a] NVIDIA H100 80GB HBM3
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
     1048576        262144     float     sum      -1    15.63   67.09   67.09      0    15.51   67.60   67.60      0
   134217728      33554432     float     sum      -1   412.30  325.53  325.53      0   411.90  325.85  325.85      0
# Out of bounds values : 0 OK
"""


def test_nccl_tests(tmp_path: Path) -> None:
    path = tmp_path / "all_reduce_perf.txt"
    path.write_text(NCCL)
    rows = nccl_tests_output.read(path)
    assert [(row["collective"], row["gpus"], row["bytes"]) for row in rows] == [
        ("all_reduce", 2, 1048576),
        ("all_reduce", 2, 134217728),
    ]
    assert rows[1]["time_s"] == pytest.approx(412.30e-6)
    table = tmp_path / "collective.csv"
    table.write_text("collective,gpus,bytes,time_s,low_s,high_s\nall_reduce,2,4,1,1,1\nall_gather,2,4,1,1,1\n")
    nccl_tests_output.write(table, rows)
    kept = table.read_text().splitlines()
    assert [line.split(",")[0] for line in kept[1:]] == ["all_gather", "all_reduce", "all_reduce"]
    (tmp_path / "other.txt").write_text("nothing")
    with pytest.raises(WrongInput, match="fewer than two ranks"):
        nccl_tests_output.read(tmp_path / "other.txt")


def test_a_trace_is_told_apart_by_kind_of_work(tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "kernel", "name": "ampere_bf16_s16816gemm", "ts": 0, "dur": 100, "tid": 7},
        {
            "ph": "X",
            "cat": "kernel",
            "name": "ncclDevKernel_AllReduce_Sum_bf16_RING_LL",
            "ts": 50,
            "dur": 100,
            "tid": 20,
        },
        {"ph": "X", "cat": "kernel", "name": "flash_fwd_kernel", "ts": 200, "dur": 40, "tid": 7},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 5, "tid": 1},
    ]
    import json

    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    found = torch_trace.read(path)
    assert found.seconds["matmul"] == pytest.approx(100e-6)
    assert found.seconds["communication"] == pytest.approx(100e-6)
    assert found.seconds["attention"] == pytest.approx(40e-6)
    assert found.exposed == pytest.approx(50e-6)
    assert found.span == pytest.approx(240e-6)
    path.write_text("{}")
    with pytest.raises(WrongInput, match="no trace"):
        torch_trace.read(path)


def test_a_real_trace_counts_each_operator_once(tmp_path: Path) -> None:
    import torch

    a = torch.randn(512, 512)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(5):
            torch.nn.functional.linear(a, a)
    found.export_chrome_trace(str(tmp_path / "trace.json"))
    trace = torch_trace.read(tmp_path / "trace.json")
    own = sum(event.self_cpu_time_total for event in found.key_averages()) / 1e6
    assert sum(trace.seconds.values()) == pytest.approx(own, rel=0.1)
    assert max(trace.seconds, key=lambda name: trace.seconds[name]) == "matmul"


def test_the_worker_follows_memory_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside torch.distributed._tools.mem_tracker on a small training step."""
    import torch
    from torch.distributed._tools.mem_tracker import MemTracker

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "validate"))
    from run.watch import Watch  # type: ignore[import-not-found]

    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(*(m for _ in range(4) for m in (torch.nn.Linear(256, 256), torch.nn.GELU())))
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        model(torch.randn(512, 256)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = build()
    step(model, optimizer)
    states = [value for state in optimizer.state.values() for value in state.values()]
    with Watch(torch.device("cpu"), [*model.parameters(), *states]) as watch:
        step(model, optimizer)
    model, optimizer = build()
    step(model, optimizer)
    tracker = MemTracker()
    tracker.track_external(model, optimizer)
    with tracker:
        step(model, optimizer)
    theirs = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert watch.peak == pytest.approx(theirs, rel=0.05)
    for name in [name for name in sys.modules if name == "run" or name.startswith("run.")]:
        del sys.modules[name]
