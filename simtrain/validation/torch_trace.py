"""Reading a trace of torch.profiler (export_chrome_trace), so that a user's own run can be compared term by term."""

import gzip
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from simtrain.errors import Problem, WrongInput
from simtrain.validation.compare import grouped

KERNELS: Final = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of events that occupy a device."""


@dataclass(frozen=True)
class Trace:
    """Of one rank."""

    operators: list[dict[str, Any]]
    """Name and seconds of a step, or of everything where the trace marks no steps (torch.profiler's step()); kernels
    where there are any, else operators' own time."""
    seconds: dict[str, float]
    """By the groups of a comparison."""
    exposed: float | None
    """Seconds of a step in which a device ran communication and nothing else; None where no device has kernels."""
    span: float
    """Seconds from first to last event."""


def read(path: Path) -> Trace:
    """One trace, .json or .json.gz; WrongInput where it is none."""
    try:
        raw = path.read_bytes()
        data = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        events = [event for event in data["traceEvents"] if event.get("ph") == "X"]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise WrongInput([Problem(str(path), None, f"is no trace of torch.profiler: {error!r}")]) from None
    kernels = [event for event in events if event.get("cat") in KERNELS]
    timed = kernels or _own([event for event in events if event.get("cat") == "cpu_op"])
    if not timed:
        raise WrongInput([Problem(str(path), None, "holds no operators", "profile with ProfilerActivity.CPU or CUDA")])
    totals: defaultdict[str, float] = defaultdict(float)
    for event in timed:
        totals[event["name"]] += float(event["dur"]) / 1e6
    steps = max(len({event["name"] for event in events if str(event["name"]).startswith("ProfilerStep#")}), 1)
    operators = [
        {"name": name, "time_s": value / steps} for name, value in sorted(totals.items(), key=lambda row: -row[1])
    ]
    begin = min(float(event["ts"]) for event in timed)
    end = max(float(event["ts"]) + float(event["dur"]) for event in timed)
    exposed = _exposed(kernels) / steps if kernels else None
    return Trace(operators, grouped(operators), exposed, (end - begin) / 1e6)


def _own(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Operators with the time of those they called taken out: events nest on a thread."""
    found = []
    threads: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (float(event["ts"]), -float(event["dur"]))):
        stack = threads[event.get("tid")]
        while stack and float(event["ts"]) >= stack[-1]["end"]:
            stack.pop()
        row = {"name": event["name"], "ts": event["ts"], "dur": float(event["dur"])}
        row["end"] = float(event["ts"]) + row["dur"]
        if stack:
            stack[-1]["dur"] -= row["dur"]
        stack.append(row)
        found.append(row)
    return found


def _exposed(kernels: list[dict[str, Any]]) -> float:
    """Seconds of communication kernels that no other kernel covers."""
    sides = {True: [], False: []}  # type: dict[bool, list[tuple[float, float]]]
    for event in kernels:
        sends = grouped([{"name": event["name"], "time_s": 1.0}])["communication"] > 0
        sides[sends].append((float(event["ts"]), float(event["ts"]) + float(event["dur"])))
    edges = sorted({edge for spans in sides.values() for span in spans for edge in span})
    if len(edges) < 2:
        return 0.0
    covered = {}
    for sends, spans in sides.items():
        depth = np.zeros(len(edges))
        for begin, end in spans:
            depth[np.searchsorted(edges, begin)] += 1
            depth[np.searchsorted(edges, end)] -= 1
        covered[sends] = np.cumsum(depth)[:-1] > 0
    return float((np.diff(edges) * (covered[True] & ~covered[False])).sum()) / 1e6
