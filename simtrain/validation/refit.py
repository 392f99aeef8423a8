"""Refitting a measured device to validation records: its sustained rates, written beside its profile.

A rate is moved by the geometric mean, over the records, of predicted over measured seconds of the terms it prices, so
that a second round on the same records changes nothing but what rounding leaves. Communication is not refitted: its
prediction is what compute leaves exposed, its measurement all that the library ran or, on a processor, none of the
waiting; collective.csv gives its rates. Rates are kept only if the records' steps are then predicted better.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w

from simtrain.errors import Problem, WrongInput
from simtrain.spec.base import Evidence, checked
from simtrain.spec.calibration import RATES, DeviceRates, device_rates
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.validation import compare, predict

RATE_OF: Final = {
    "matmul": "matmul",
    "attention": "attention",
    "elementwise": "elementwise",
}
LEAST, MOST = 0.02, 2.0
"""Bounds of a rate; a rate that would lie beyond them stays as it was, as something else is wrong than a rate."""

ROUNDING: Final = 1e-3
"""Of an error; what writing rates with four digits can change."""


@dataclass(frozen=True)
class Record:
    """A run that ended well."""

    name: str
    job: Job
    plan: Plan
    stage: int | None
    ranks: list[dict[str, Any]]

    def rows(self) -> list[compare.Row]:
        """Compared with what is predicted now."""
        if self.stage is None:
            return compare.compared(predict.predict(self.job, self.plan), self.ranks)
        return compare.compared(predict.predict_slice(self.job, self.plan, self.stage), self.ranks)


@dataclass(frozen=True)
class Refit:
    """One device's new rates, and step-time errors of its records before and after."""

    profile: Path
    before: DeviceRates
    after: DeviceRates
    errors_before: dict[str, float]
    errors_after: dict[str, float]
    refused: dict[str, float]
    """Rates that would have left their bounds, and where they would have gone."""

    @property
    def better(self) -> bool:
        """Whether the median |log(predicted / measured)| of the steps falls; only then are rates written."""
        return _median(self.errors_after) < _median(self.errors_before) - ROUNDING


def _median(errors: dict[str, float]) -> float:
    return float(np.median(np.abs(np.log1p(list(errors.values()))))) if errors else np.inf


def read(folder: Path) -> list[Record]:
    """Records of a folder whose runs ended well; WrongInput where there are none or a file is no record."""
    found, problems = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["status"] != "ok":
                continue
            job, plan = checked(Job, data["job"], str(path)), checked(Plan, data["plan"], str(path))
            found.append(Record(path.stem, job, plan, data["slice_stage"], data["ranks"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(Problem(str(path), None, f"is no validation record: {error!r}"))
        except WrongInput as wrong:
            problems += wrong.problems
    if not found and not problems:
        problems.append(Problem("--from", str(folder), "holds no record of a run that ended well", "simtrain validate"))
    if problems:
        raise WrongInput(problems)
    return found


def refit(records: list[Record], write: bool) -> list[Refit]:
    """New rates of every measured device of the records; written to its profile's rates.toml where they are better."""
    devices: defaultdict[str, list[Record]] = defaultdict(list)
    problems = []
    for record in records:
        profile = record.job.cluster.device.profile or ""
        if not Path(profile).is_absolute() or not Path(profile, "meta.toml").is_file():
            rule = "was not planned on a profile of your own, which a refit belongs to"
            problems.append(Problem(record.name, profile or None, rule, "simtrain measure, plan on its cluster.toml"))
        devices[profile].append(record)
    if problems:
        raise WrongInput(problems)
    return [_refit(Path(profile), mine, write) for profile, mine in sorted(devices.items())]


def _refit(profile: Path, records: list[Record], write: bool) -> Refit:
    before = device_rates(str(profile))
    ratios: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        for row in record.rows():
            if _tells(record, row) and row.predicted and row.measured:
                ratios[RATE_OF[row.name]].append(float(np.log(row.predicted / row.measured)))
    data, refused = before.model_dump(mode="json"), {}
    for name, logarithms in ratios.items():
        value = float(f"{getattr(before, name).value * np.exp(np.mean(logarithms)):.4g}")
        if not LEAST < value < MOST:
            refused[name] = value
            continue
        data[name] = {
            "value": value,
            "source": f"simtrain calibrate --from: {len(logarithms)} records",
            "evidence": Evidence.MEASURED_HERE.value,
        }
    errors, path, kept = _step_errors(records), profile / RATES, False
    old = path.read_bytes() if path.is_file() else None
    try:
        path.write_text(tomli_w.dumps(data), encoding="utf-8")
        device_rates.cache_clear()
        found = Refit(profile, before, device_rates(str(profile)), errors, _step_errors(records), refused)
        kept = write and found.better
    finally:
        if not kept:
            path.unlink(missing_ok=True) if old is None else path.write_bytes(old)
            device_rates.cache_clear()
    return found


def _tells(record: Record, row: compare.Row) -> bool:
    """Whether a row tells a rate.

    Offloaded states bring passes of their own, which no elementwise term predicts, and so does a slice of sequence
    parallelism: copies and sums stand in for what the other ranks would send.
    """
    if row.name not in RATE_OF or row.unit != "s":
        return False
    alone = record.stage is not None and record.plan.sp and record.plan.tp > 1
    return row.name != "elementwise" or (record.plan.offload == "none" and not alone)


def _step_errors(records: list[Record]) -> dict[str, float]:
    """Of undisturbed steps where other programs ran beside them."""
    found = {}
    for record in records:
        errors = {row.name: row.error for row in record.rows()}
        error = errors.get(compare.UNDISTURBED, errors["step"])
        if error is not None:
            found[record.name] = error
    return found
