"""Printed parts of published runs against ours: passes of a stage or a layer, messages between stages, memory classes.

validate/published/parts.json maps rows of runs.csv to what their sources print of them. A part is predicted by the
estimator's own pricing of that row, under the variant of its plan the source names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.estimate import estimate, machine, passes
from simtrain.price.profile import UNFUSED
from simtrain.spec.library import path_of
from simtrain.spec.plan import Plan, PlanTable
from simtrain.timeline.memory import CLASSES
from simtrain.validation.corpus import PUBLISHED, Corpus
from simtrain.validation.rows import Expressed, express
from simtrain.workload.program import program
from simtrain.workload.strategies.pipeline import INNER

MILLI: Final = 1e-3
GIB: Final = 2.0**30
STAGE: Final = ("forward", "backward to the input", "backward to the weights", "message to the next stage")
"""T_F, T_B, T_W and T_comm of Qi et al. (arXiv 2401.10241)."""
LAYER: Final = ("forward", "backward")
STATES: Final = ("weights", "gradients", "optimizer")
VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "baseline_no_recompute": {"sp": False, "recompute": "none"},
    "sequence_parallel": {"sp": True, "recompute": "none"},
    "full_recompute": {"sp": False, "recompute": "full"},
    "selective": {"sp": False, "recompute": "selective"},
    "selective+sp": {"sp": True, "recompute": "selective"},
    "no_recompute": {"sp": False, "recompute": "none"},
    "selective_sp": {"sp": True, "recompute": "selective"},
}
"""Variants of a row's plan that sources print beside it, in the words of parts.json."""


@dataclass(frozen=True)
class Part:
    """One printed part of a row; seconds, or bytes where `unit` is B."""

    row: str
    source: str
    name: str
    unit: str
    measured: float
    predicted: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured


def parts(found: Corpus, folder: Path | None = None) -> list[Part]:
    """Every part that `folder` (None: the shipped one) prints of the rows that can be expressed, each table once."""
    rows = {item.row.id: item for item in express(found) if isinstance(item, Expressed)}
    compared: list[Part] = []
    seen: set[str] = set()
    for name, printed in _printed(folder, {row.id for row in found.rows}).items():
        if name not in rows:
            continue
        item = rows[name]
        for key, value in printed.items():
            content = json.dumps([item.row.source, item.row.model, key, value])
            if key in _READERS and content not in seen:
                seen.add(content)
                compared += _READERS[key](item, value)
    return compared


def _printed(folder: Path | None, known: set[str]) -> dict[str, dict[str, Any]]:
    """parts.json of a folder; WrongInput with everything in it that is not understood."""
    path = (path_of(PUBLISHED) if folder is None else folder) / "parts.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error}")]) from None
    if not isinstance(content, dict) or not all(isinstance(printed, dict) for printed in content.values()):
        raise WrongInput([Problem(str(path), None, "must map rows to what is printed of them")])
    keys = {*_READERS, *_IGNORED}
    problems = [
        Problem(f"{path.name} {row}", key, "is not known", nearest(key, keys))
        for row, printed in content.items()
        for key in printed
        if key not in keys
    ]
    if problems:
        raise WrongInput(problems)
    return {row: printed for row, printed in content.items() if row in known}


def _stage(item: Expressed, printed: Sequence[float]) -> list[Part]:
    """Passes of a microbatch, in the mean over stages: the source does not say of which stage, and evens them out."""
    plans = PlanTable.of([item.plan])
    on = machine(item.job)
    ours, hops = passes(item.job, plans, on)
    count = program(item.job, plans, fused_attention=on.attention_kernel not in UNFUSED).stages.layout.count

    def mean(stages: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        return float(((count * stages).sum(axis=0) / item.plan.pp)[0])

    message = float(hops.path[0]) / max(item.plan.pp - 1, 1)
    predicted = (mean(ours.forward), mean(ours.backward - ours.weight), mean(ours.weight), message)
    return [
        _part(item, f"stage {name}", MILLI * value, by_us)
        for name, value, by_us in zip(STAGE, printed, predicted, strict=True)
    ]


def _layer(item: Expressed, printed: Mapping[str, Sequence[float]]) -> list[Part]:
    """Passes of one layer: a pipeline of as many stages as layers holds one on each inner stage."""
    found = []
    for variant, values in printed.items():
        plan = _varied(item.plan, variant, pp=item.job.model.layers, vpp=1, schedule="1f1b")
        ours, _ = passes(item.job, PlanTable.of([plan]), machine(item.job))
        for name, value, by_us in zip(LAYER, values, (ours.forward, ours.backward), strict=True):
            found.append(_part(item, f"layer {name}, {variant}", MILLI * value, float(by_us[INNER, 0])))
    return found


def _memory(variant: str | None, classes: Sequence[str], name: str) -> Callable[[Expressed, float], list[Part]]:
    """A reader of memory classes (GiB) under a variant of the row's plan."""

    def read(item: Expressed, printed: float) -> list[Part]:
        plan = item.plan if variant is None else _varied(item.plan, variant)
        held = estimate(item.job, PlanTable.of([plan]), machine(item.job)).memory.classes[:, 0]
        by_us = sum(float(held[CLASSES.index(kind)]) for kind in classes)
        return [_part(item, name, GIB * printed, by_us, "B")]

    return read


def _varied(plan: Plan, variant: str, **fields: Any) -> Plan:
    if variant not in VARIANTS:
        raise WrongInput([Problem("parts.json variant", variant, "is not known", nearest(variant, VARIANTS))])
    return plan.model_copy(update={**VARIANTS[variant], **fields})


def _part(item: Expressed, name: str, measured: float, predicted: float, unit: str = "s") -> Part:
    return Part(item.row.id, item.row.source, name, unit, measured, predicted)


_READERS: Final[Mapping[str, Callable[[Expressed, Any], list[Part]]]] = {
    "profiled_ms_TF_TB_TW_Tcomm_per_stage": _stage,
    "table4_per_layer_ms_fwd_bwd": _layer,
    "figure1_params_grads_optimizer_gib": _memory(None, STATES, "memory of states"),
    "figure1_activations_gib_no_recompute": _memory("no_recompute", ("activations",), "activations, no_recompute"),
    "figure1_activations_gib_selective_sp": _memory("selective_sp", ("activations",), "activations, selective_sp"),
}
_IGNORED: Final = ("microbatches",)
"""What is in runs.csv as well."""
