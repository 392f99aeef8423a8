"""A measured run beside its prediction, term by term."""

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from simtrain.price import kernels
from simtrain.price.profile import profile
from simtrain.spec.job import Job
from simtrain.validation.predict import GROUPS, Prediction

OPERATORS: Final = (
    (
        "communication",
        r"nccl|c10d|gloo|wait_tensor|^_Exchange|FSDP::(all_gather|post_backward_reduce|.*wait)|all_?reduce|ProcessGroup",
    ),
    ("optimizer", r"adam|multi_tensor_apply"),
    ("attention", r"scaled_dot_product|flash|fmha|sdpa|attention|dot_do_o|convert_dq"),
    ("matmul", r"aten::(mm|bmm|addmm|_scaled_mm)$|gemm|cutlass|cublas|nvjet|xmma"),
    (
        "elementwise",
        r"elementwise|reduce_kernel|norm|GammaBeta|softmax|CatArray|index|scatter|gather|embedding|compute_grad_weight|"
        r"aten::(add|mul|div|sub|neg|silu|gelu|sigmoid|exp|log|pow|rsqrt|mean|sum|amax|cat|copy|gather|index|embedding)",
    ),
)
"""Patterns of torch.profiler's operator or kernel names, in the order they are tried; all others (copies to and from
the host, what a library does beside the passes) are other compute."""
UNDISTURBED: Final = "step, undisturbed"
EXPOSED: Final = "exposed communication"
LEFT: Final = ("reserve", "fragmentation")
"""Classes of memory that are no tensors."""


@dataclass(frozen=True)
class Row:
    """One quantity, predicted and measured; None where a side has none."""

    name: str
    unit: str
    predicted: float | None
    measured: float | None
    note: str = ""

    @property
    def error(self) -> float | None:
        """Predicted over measured, minus 1."""
        if self.predicted is None or not self.measured:
            return None
        return self.predicted / self.measured - 1


def grouped(operators: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a step by GROUPS from torch.profiler's rows."""
    seconds = dict.fromkeys(GROUPS, 0.0)
    for row in operators:
        group = next(
            (name for name, pattern in OPERATORS if re.search(pattern, row["name"], re.IGNORECASE)), "other compute"
        )
        seconds[group] += row["time_s"]
    return seconds


def reference(job: Job, ranks: list[dict[str, Any]]) -> list[Row]:
    """The product ranks timed around the steps, beside the profile's: whether the machine is what was measured."""
    found = [rank["reference"] for rank in ranks if rank.get("reference", {}).get("times_s")]
    if not found or found[0]["dtype"] not in job.cluster.device.peak:
        return []
    m, n, k = (np.array([float(found[0][name])]) for name in "mnk")
    predicted = kernels.matmul(profile(job.cluster.device), found[0]["dtype"], m, n, k, np.ones(1)).seconds
    measured = float(np.median([second for one in found for second in one["times_s"]]))
    return [Row("reference product", "s", float(predicted[0]), measured, "timed before and after the steps")]


def compared(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    """Every quantity both sides know."""
    steps = [second for rank in ranks for second in rank["step_times_s"]]
    step = float(np.median(steps)) if steps else None
    rows = [Row("step", "s", prediction.step_time, step), *_undisturbed(prediction, ranks)]
    alone = rows[1].measured if len(rows) > 1 else None
    share = alone / step if alone and step else 1.0
    measured = [grouped(rank["operators"]) for rank in ranks if rank.get("operators")]
    for name in GROUPS:
        mean = share * float(np.mean([seconds[name] for seconds in measured])) if measured else None
        if name == "bubble":
            mean = None
        note = "less what other programs took of the steps" if mean is not None and share < 1 else ""
        rows.append(Row(name, "s", prediction.seconds[name], mean, note))
    shown = [rank["exposed_communication_s"] for rank in ranks if rank.get("exposed_communication_s") is not None]
    if shown:
        note = "while no other kernel runs"
        rows.append(Row(EXPOSED, "s", prediction.seconds["communication"], float(np.mean(shown)), note))
    rows += _memory(prediction, ranks) + _messages(prediction, ranks)
    return [*rows, _energy(prediction, ranks)]


def _undisturbed(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    """The step less what other programs held the most delayed rank off the processor, where they did."""
    held = [rank.get("held_off_s") or [] for rank in ranks]
    count = min((min(len(one), len(rank["step_times_s"])) for one, rank in zip(held, ranks, strict=True)), default=0)
    if not count or not np.any([one[:count] for one in held]):
        return []
    steps = np.min([rank["step_times_s"][:count] for rank in ranks], axis=0)
    alone = float(np.median(steps - np.max([one[:count] for one in held], axis=0)))
    return [Row(UNDISTURBED, "s", prediction.step_time, alone, "other programs had the processor for the rest")]


def _energy(prediction: Prediction, ranks: list[dict[str, Any]]) -> Row:
    """Of all devices; measured where every rank's device has a counter that may be read."""
    found = [rank["energy"]["energy_per_step_j"] for rank in ranks if rank.get("energy")]
    whole = float(sum(found)) if found and len(found) == len(ranks) else None
    note = f"predicted from powers that are {prediction.joules_evidence}"
    if whole is None:
        sensors = next((rank["machine"].get("sensors") or {} for rank in ranks if "machine" in rank), {})
        note += f"; not measured: {sensors.get('note') or 'no energy counter was read'}"
    return Row("energy of a step", "J", prediction.joules, whole, note)


def _memory(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    tensors = sum(size for name, size in prediction.memory.items() if name not in LEFT)
    held = [rank["memory"] for rank in ranks if rank.get("memory", {}).get("watched_peak_bytes")]
    if not held:
        return _allocated(prediction, tensors, [rank["memory"] for rank in ranks if rank.get("memory")])
    rows = [
        Row("tensors at the peak", "B", tensors, float(max(rank["watched_peak_bytes"] for rank in held))),
        Row("optimizer states", "B", prediction.memory["optimizer"], float(max(r["optimizer_bytes"] for r in held))),
    ]
    return rows + _allocated(prediction, tensors, held)


def _allocated(prediction: Prediction, tensors: float, held: list[dict[str, Any]]) -> list[Row]:
    """What the allocator says, of a run that ended early too."""
    if not held or not all("peak_reserved_bytes" in rank for rank in held):
        return []
    allocated, reserved = (
        float(max(rank[f"peak_{what}_bytes"] for rank in held)) for what in ("allocated", "reserved")
    )
    return [
        Row("allocated", "B", tensors, allocated),
        Row("reserved", "B", tensors + prediction.memory["fragmentation"], reserved),
    ]


def _messages(prediction: Prediction, ranks: list[dict[str, Any]]) -> list[Row]:
    """Counts and bytes of every axis and collective, over all ranks that recorded them."""
    sides: tuple[dict[tuple[str, str], list[float]], ...] = ({}, {})
    for rank in ranks:
        if "messages" not in rank or not prediction.messages:
            continue
        for entry in prediction.messages[rank["stage"]]:
            total = sides[0].setdefault((entry.axis, entry.collective), [0.0, 0.0])
            total[0], total[1] = total[0] + entry.count, total[1] + entry.size
        for row in rank["messages"]:
            total = sides[1].setdefault((row["axis"], row["collective"]), [0.0, 0.0])
            total[0], total[1] = total[0] + row["count"], total[1] + row["bytes"]
    rows = []
    for key in sorted(sides[0].keys() | sides[1].keys()):
        name = f"{key[0]} {key[1].replace('_', '-')}"
        for place, unit in enumerate(("calls", "B")):
            predicted, measured = (side.get(key, [0.0, 0.0])[place] for side in sides)
            rows.append(Row(name, unit, predicted, measured))
    return rows
