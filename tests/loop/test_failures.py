"""How a run can end, and that nothing of it is left."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from loop_fixtures import Planned, alive

from simtrain.errors import WrongInput
from simtrain.spec.library import path_of
from simtrain.validation import launch, runs, slurm

SLEEPER = {"PYTHONPATH": str(Path(__file__).parent)}


def sleepers(mark: str) -> list[str]:
    """Two ranks under torchrun, each with the mark on its command line."""
    return ["env", *(f"{k}={v}" for k, v in SLEEPER.items()), *launch.torchrun("sleeper", 2, [mark])]


def test_a_run_that_takes_too_long_leaves_no_process() -> None:
    mark = f"late-{os.getpid()}"
    ended = launch.run(sleepers(mark), 8.0, lambda line: None)
    assert ended.code is None
    assert alive(mark) == []


def test_a_killed_launcher_leaves_no_process() -> None:
    mark, heard = f"killed-{os.getpid()}", []

    def kill(line: str) -> None:
        heard.append(line)
        if heard.count("started") == 2:
            os.kill(min(alive(mark)), signal.SIGKILL)

    ended = launch.run(sleepers(mark), 60.0, kill)
    assert heard.count("started") == 2
    assert ended.code == -9
    assert alive(mark) == []
    status, why, parts = runs.judged(ended, [])
    assert (status, parts) == ("failed", [])
    assert "signal 9" in why


def test_a_terminated_program_leaves_no_process() -> None:
    mark = f"terminated-{os.getpid()}"
    program = "import sys; from simtrain.validation import launch; launch.run(sys.argv[1:], 60.0, print)"
    with subprocess.Popen([sys.executable, "-uc", program, *sleepers(mark)], stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        assert [one.stdout.readline().strip() for _ in range(2)] == ["started", "started"]
        one.terminate()
        assert one.wait(timeout=30) == 128 + signal.SIGTERM
    assert alive(mark) == []


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


def test_a_torch_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path_of("validate")))
    machine = importlib.import_module("machine")
    assert machine.too_old() == ""
    monkeypatch.setattr(torch, "__version__", "2.10.1+cu128")
    assert machine.too_old() == "torch 2.10.1+cu128 is too old: these scripts need 2.11 or later"
    for name in ("machine", "sensors"):
        sys.modules.pop(name)


def test_sensors_that_may_not_be_read_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path_of("validate")))
    sensors = importlib.import_module("sensors")

    class Refusing:
        """A driver that answers every call with NVML_ERROR_NO_PERMISSION."""

        def __getattr__(self, name: str) -> Callable[..., int]:
            return lambda *arguments: sensors.NO_PERMISSION

    class Fixed(Refusing):
        """One whose counter alone may not be read."""

        nvmlInit_v2 = nvmlDeviceGetHandleByUUID = nvmlDeviceGetClockInfo = staticmethod(lambda *arguments: 0)

    refused, counter = (sensors.Sensors("uuid", library=library) for library in (Refusing(), Fixed()))
    assert (refused.energy(), refused.why) == (None, "nvmlInit_v2: no permission")
    assert (counter.energy(), counter.why) == (None, "nvmlDeviceGetTotalEnergyConsumption: no permission")
    assert counter.state()["sm_clock_hz"] == 0
    assert refused.state()["note"] == "nvmlInit_v2: no permission"
    sys.modules.pop("sensors")


def test_slurm_parameters() -> None:
    found = slurm.parameters("partition=gpu,account=me", 16, 8, 30, "cuda")
    assert found == {
        "nodes": 2, "tasks_per_node": 8, "gpus_per_node": 8, "timeout_min": 30,
        "slurm_partition": "gpu", "slurm_account": "me",
    }  # fmt: skip
    with pytest.raises(WrongInput, match="name=value"):
        slurm.parameters("gpu", 8, 8, 30, "cuda")
    assert "gpus_per_node" not in slurm.parameters("", 2, 2, 30, "cpu")


WAITING = """
import json, pathlib, sys
from simtrain.validation import runs, slurm
plan, folder = map(pathlib.Path, sys.argv[1:])
wanted = runs.Wanted(plan, 1, 2, "cpu", "gloo", 1000, None, None, 60.0)
asked = slurm.parameters("", 2, 2, 2, "cpu")
print(json.dumps(slurm.submit(wanted, asked, folder, lambda line: None, "local", 0.2)))
"""


def test_an_interrupted_wait_cancels_the_job_and_keeps_what_it_had(planned: Planned, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    command = [sys.executable, "-c", WAITING, str(planned()[2]), str(tmp_path)]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}  # which cancels jobs here
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **heard) as waiting:
        until = time.monotonic() + 90
        while time.monotonic() < until and waiting.poll() is None:
            if any(part["step_times_s"] for part in runs.parts(tmp_path / "record.json")):
                break
            time.sleep(0.2)
        waiting.terminate()
        said, _ = waiting.communicate(timeout=60)
    status, why, parts = json.loads(said.splitlines()[-1])
    assert status == "failed"
    assert "was cancelled" in why
    assert any(part["step_times_s"] for part in parts)
    until = time.monotonic() + 20
    while alive(str(tmp_path / "record.json")) and time.monotonic() < until:
        time.sleep(0.2)
    assert alive(str(tmp_path / "record.json")) == []
