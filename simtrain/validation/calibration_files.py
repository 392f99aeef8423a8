"""Writing a calibration to profiles/calibration, with provenance; equal fits give equal files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from simtrain.spec.calibration import DEFAULT, DEVICES, ERRORS, STACKS
from simtrain.validation.calibrate import HIGHEST, NUMBERS, Fitted, Measured, owner, scaled
from simtrain.validation.memory_fit import NUMBER, Allocator

COMMAND = "simtrain calibrate"
UNMOVED = 1e-4
UNSPOKEN = {"value": 1.0, "source": f"{COMMAND}: no run depends on it", "evidence": "assumed"}


def documents(runs: list[Measured], fitted: Fitted, memory: Sequence[Allocator] = ()) -> dict[str, dict[str, Any]]:
    """Content of the three files."""
    stacks = _stacks(runs, fitted)
    for found in memory:
        stacks.setdefault(found.of.stack, {})[NUMBER] = _fact(_digits(found.share), len(found.of.ran), found.of.sources)
    return {DEVICES: _devices(runs, fitted), STACKS: dict(sorted(stacks.items())), ERRORS: _errors(runs, fitted)}


def write(folder: Path, content: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the files; keys in order, numbers to four digits."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in content.items():
        with (folder / name).open("wb") as file:
            tomli_w.dump(document, file)


def _moved(factor: float) -> bool:
    """Whether any run spoke on a number: one that none depends on stays where it starts and is not called measured."""
    return abs(factor - 1) > UNMOVED


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _fact(value: float | str, runs: int, sources: Iterable[str]) -> dict[str, Any]:
    of = ", ".join(sorted(set(sources)))
    return {"value": value, "source": f"{COMMAND}: {runs} runs of {of}", "evidence": "measured elsewhere"}


def _devices(runs: list[Measured], fitted: Fitted) -> dict[str, Any]:
    """Rates by architecture and by device, and their medians for those no run was seen of."""
    document: dict[str, Any] = {}
    default: dict[str, Any] = {}
    for kind in ("architecture", "device", "node"):
        found = fitted.numbers[kind]
        for name, numbers in sorted(found.items()):
            mine = [run for run in runs if owner(run.job, kind) == name]
            sources = [run.source for run in mine]
            document[name] = {
                number: _fact(_digits(value), len(mine), sources) if _moved(value) else UNSPOKEN
                for number, value in numbers.items()
            }
        for number in NUMBERS[kind]:
            default[number] = {
                "value": _digits(float(np.median([numbers[number] for numbers in found.values()]))),
                "source": f"{COMMAND}: median of {len(found)}",
                "evidence": "assumed",
            }
    return document | {DEFAULT: default}


def _stacks(runs: list[Measured], fitted: Fitted) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for name, factors in sorted(fitted.numbers["stack"].items()):
        mine = [run for run in runs if run.job.stack.name == name]
        values = scaled(mine[0].job.stack, factors)
        document[name] = {}
        for number in filter(lambda number: _moved(factors.get(number, 1.0)), NUMBERS["stack"]):
            value = _digits(getattr(values, number).value)
            written = value if number in HIGHEST else f"{value!r} s"
            document[name][number] = _fact(written, len(mine), [run.source for run in mine])
    return document


def _errors(runs: list[Measured], fitted: Fitted) -> dict[str, Any]:
    """Left-out errors by stack on device, stack, device, and all."""
    groups: dict[str, list[float]] = {}
    for run, error in zip(runs, np.abs(fitted.left_out), strict=True):
        device, stack = owner(run.job, "device"), run.job.stack.name
        for name in (f"{stack} on {device}", stack, device, DEFAULT):
            groups.setdefault(name, []).append(float(error))
    return {
        name: {
            "runs": len(errors),
            "median": _digits(float(np.expm1(np.median(errors)))),
            "p90": _digits(float(np.expm1(np.quantile(errors, 0.9, method="higher")))),
        }
        for name, errors in sorted(groups.items())
    }
