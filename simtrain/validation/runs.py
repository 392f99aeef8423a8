"""Running a plan for real: the worker started, its parts gathered, what went wrong put into words."""

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.validation import launch, torch_trace

WORDS: Final = {17: "out of memory", 18: "failed"}
"""Exit codes of validate/run."""
KILLED: Final = (-9, 137)
LAUNCHER: Final = r"ChildFailedError|torch\.distributed\.elastic|error_file|exitcode"
"""In lines torchrun says of ranks that fell."""


@dataclass(frozen=True)
class Wanted:
    """One run of the worker."""

    plan: Path
    rank: int
    ranks: int
    device: str
    backend: str
    steps: int
    stage: int | None
    """Of a slice; None: the whole plan."""
    trace: Path | None
    limit: float
    """Seconds after which it is ended."""


def arguments(wanted: Wanted, out: Path) -> list[str]:
    """What the worker is told."""
    stage = [] if wanted.stage is None else ["--slice", str(wanted.stage)]
    trace = [] if wanted.trace is None else ["--trace", str(wanted.trace.resolve())]
    return [
        *(str(wanted.plan.resolve()), "--rank", str(wanted.rank), "--out", str(out)),
        *("--device", wanted.device, "--backend", wanted.backend, "--steps", str(wanted.steps), *stage, *trace),
    ]


def carried_out(wanted: Wanted, heard: Callable[[str], None]) -> tuple[str, str, list[dict[str, Any]]]:
    """Run the worker here; returns status, why, and whatever ranks recorded, in rank order, interrupted or not."""
    with tempfile.TemporaryDirectory(prefix="simtrain-") as folder:
        out = Path(folder) / "record.json"
        command = launch.torchrun("run", wanted.ranks, arguments(wanted, out))
        try:
            ended = launch.run(command, wanted.limit, heard)
        except (KeyboardInterrupt, SystemExit):
            return "failed", "interrupted", parts(out)
        return judged(ended, parts(out))


def parts(out: Path) -> list[dict[str, Any]]:
    """Records of the ranks that wrote one."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in out.parent.glob(f"{out.stem}.rank*.json")]
    return sorted(found, key=lambda part: int(part["rank"]))


def read(path: Path) -> tuple[str, str, list[dict[str, Any]]]:
    """What a worker that was started by hand wrote, or a trace of torch.profiler; WrongInput where it is neither."""
    if path.suffix == ".gz":
        return _traced(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if "traceEvents" in data:
            return _traced(path)
        found = list(data["ranks"])
        status, why, found = judged(launch.Ended(0, ()), found)
        if any(part["status"] == "started" for part in found):
            status, why = "failed", "a rank was ended before its last step"
        return status, why, found
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "name the --out of python -m run, or a trace of torch.profiler"
        raise WrongInput([Problem("--record", str(path), f"is not what the worker writes: {error!r}", hint)]) from None


def _traced(path: Path) -> tuple[str, str, list[dict[str, Any]]]:
    """A trace as what one rank recorded: its operators alone."""
    trace = torch_trace.read(path)
    found = {"operators": trace.operators, "exposed_communication_s": trace.exposed}
    return "ok", "", [{"rank": 0, "stage": 0, "step_times_s": []} | found]


def judged(ended: launch.Ended, found: list[dict[str, Any]]) -> tuple[str, str, list[dict[str, Any]]]:
    """How a run went: out of memory before killed before failed, as the first rank that fell takes others with it."""
    fallen = {status: [part for part in found if part["status"] == status] for status in WORDS.values()}
    short, failed = fallen.values()
    if short:
        return "out of memory", _why(short[0]), found
    if ended.code is None:
        return "failed", "it took too long and was ended; raise --limit if it may take longer", found
    said = "\n".join(ended.said)
    if "SIGKILL" in said or ended.code in KILLED:
        return "failed", "a rank was killed (signal 9); the kernel does that when host memory runs out", found
    if failed:
        return "failed", _why(failed[0]), found
    if ended.code == 0 and found:
        return "ok", "", found
    for sign in ("is too old", "the plan is for", "EADDRINUSE", "address already in use", "sees no CUDA"):
        line = next((line for line in ended.said if sign in line), None)
        if line is not None:
            return "failed", line.strip(), found
    return "failed", f"the launcher ended with code {ended.code}: {_error(ended.said)}", found


def _why(part: dict[str, Any]) -> str:
    return f"rank {part['rank']}: {part.get('why', '')}"


def _error(said: tuple[str, ...]) -> str:
    """The last line that looks like a reason and is not the launcher's, else the last one."""
    reasons = [line.strip() for line in said if re.search(r"Error|error:", line) and not re.search(LAUNCHER, line)]
    return reasons[-1] if reasons else (said[-1] if said else "it said nothing")
