"""Starting the torch scripts of validate/ in processes of their own, and ending all of them whatever happens."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.library import path_of

TAIL: Final = 60
"""Lines of what a failed run said last."""
GRACE: Final = 5.0
"""Seconds between asking processes to end and ending them."""


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
    """What the scripts need: their folder on Python's path, and threads shared by their own count."""
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
    with subprocess.Popen(
        command,
        env=os.environ | environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        last: deque[str] = deque(maxlen=TAIL)
        reader = threading.Thread(target=_listen, args=(process, last, heard), daemon=True)
        reader.start()
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
            reader.join(timeout=GRACE)
    return Ended(code, tuple(last))


def _listen(process: "subprocess.Popen[str]", last: deque[str], heard: Callable[[str], None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        last.append(line.rstrip())
        heard(line.rstrip())


def _end(process: "subprocess.Popen[str]") -> None:
    """End the launcher, so that it ends its ranks; then whatever is left of their session."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for rank in _session(process.pid):
        try:
            os.kill(rank, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _session(leader: int) -> list[int]:
    """Processes of the session the launcher opened, ranks in process groups of their own included (Linux)."""
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if entry.isdecimal():
            try:
                if os.getsid(int(entry)) == leader:
                    found.append(int(entry))
            except (ProcessLookupError, PermissionError):
                continue
    return [pid for pid in found if pid != os.getpid()]
