"""How a run can end, and that nothing of it is left."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from loop_fixtures import alive

from simtrain.errors import WrongInput
from simtrain.validation import launch, runs, slurm

CHILD = """import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)", sys.argv[1]], start_new_session=False)
print("started", flush=True)
time.sleep(120)
"""


def test_a_run_that_takes_too_long_leaves_no_process(tmp_path: Path) -> None:
    mark = f"mark-{os.getpid()}"
    ended = launch.run([sys.executable, "-c", CHILD, mark], 2.0, lambda line: None)
    assert ended.code is None
    assert ended.said == ("started",)
    time.sleep(0.2)
    assert alive(mark) == []


def test_a_killed_launcher_leaves_no_process() -> None:
    mark = f"killed-{os.getpid()}"

    def kill(line: str) -> None:
        threading.Timer(0.2, lambda: [os.kill(pid, signal.SIGKILL) for pid in alive(mark)]).start()

    ended = launch.run([sys.executable, "-c", CHILD, mark], 30.0, kill)
    assert ended.code == -9
    assert alive(mark) == []
    status, why, parts = runs.judged(ended, [])
    assert (status, parts) == ("failed", [])
    assert "signal 9" in why


def test_out_of_memory_is_told_from_what_follows_it() -> None:
    fell = {"rank": 1, "status": "out of memory", "why": "CUDA out of memory. Tried to allocate 2.00 GiB"}
    taken = {"rank": 0, "status": "failed", "why": "Connection closed by peer"}
    status, why, parts = runs.judged(launch.Ended(1, ()), [taken, fell])
    assert status == "out of memory"
    assert why == "rank 1: CUDA out of memory. Tried to allocate 2.00 GiB"
    assert len(parts) == 2


@pytest.mark.parametrize(
    "line",
    [
        "torch 2.9.0 is too old: these scripts need 2.11 or later",
        "torch sees no CUDA device here (torch.cuda.is_available() is False)",
        "The server socket has failed to bind to port 29500 (errno: 98 - address already in use).",
    ],
)
def test_what_the_worker_says_is_the_reason(line: str) -> None:
    status, why, _ = runs.judged(launch.Ended(1, ("Traceback", line, "rank 0 failed")), [])
    assert (status, why) == ("failed", line)


def test_slurm_parameters() -> None:
    found = slurm.parameters("partition=gpu,account=me", 16, 8, 30)
    assert found == {
        "nodes": 2, "tasks_per_node": 8, "gpus_per_node": 8, "timeout_min": 30,
        "slurm_partition": "gpu", "slurm_account": "me",
    }  # fmt: skip
    with pytest.raises(WrongInput, match="name=value"):
        slurm.parameters("gpu", 8, 8, 30)
