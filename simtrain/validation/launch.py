"""Starting the torch scripts of validate/ in processes of their own, and ending all of them whatever happens."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.library import path_of

TAIL: Final = 60
"""Lines of what a failed run said last."""
GRACE: Final = 5.0
"""Seconds between asking processes to end and ending them."""
MARK: Final = "SIMTRAIN_RUN"
"""Environment variable of every process of a run: torchrun starts ranks in sessions of their own."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, None where it ran out of time, and what it said last."""

    code: int | None
    said: tuple[str, ...]


def torchrun(script: str, ranks: int, arguments: Sequence[str]) -> list[str]:
    """The command that runs a script of validate/ (`measure`, `run`) on this machine's ranks, on a free port."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*start, "-m", script, *arguments]


def environment() -> dict[str, str]:
    """What the scripts need: their folder on Python's path; they set their threads themselves (validate/machine.py)."""
    return {"PYTHONPATH": str(path_of("validate")), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def written(command: Sequence[str], extra: Mapping[str, str]) -> str:
    """The command as a shell takes it."""
    import shlex

    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in extra.items()), shlex.join(command)])


def needs_torch() -> None:
    """WrongInput where this Python has no torch: the scripts run in the same one."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        rule = "has no torch, which measuring and validating need"
        raise WrongInput([Problem("python", sys.executable, rule, "pip install torch, or run simtrain where torch is")])


def run(command: Sequence[str], seconds: float, heard: Callable[[str], None]) -> Ended:
    """Run to the end or for at most `seconds`; every line it says goes to `heard`. No process is left behind."""
    mark = uuid.uuid4().hex
    with (
        terminable(),
        subprocess.Popen(
            command,
            env=os.environ | environment() | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process,
    ):
        last: deque[str] = deque(maxlen=TAIL)
        reader = threading.Thread(target=_listen, args=(process, last, heard), daemon=True)
        reader.start()
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process, mark)
            reader.join(timeout=GRACE)
    return Ended(code, tuple(last))


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends this program as an exception does, so that what it started is ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _listen(process: "subprocess.Popen[str]", last: deque[str], heard: Callable[[str], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        last.append(line.rstrip())
        heard(line.rstrip())


def _end(process: "subprocess.Popen[str]", mark: str) -> None:
    """End the launcher, so that it ends its ranks; then whatever is left of the run."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    until = time.monotonic() + GRACE
    while (left := _marked(mark)) and time.monotonic() < until:
        for rank in left:
            try:
                os.kill(rank, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def _marked(mark: str) -> list[int]:
    """Processes of a run that still have an environment, so are not yet dead (Linux)."""
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdecimal():
            try:
                if f"{MARK}={mark}".encode() in Path("/proc", entry, "environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found
