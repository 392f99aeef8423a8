"""A user's own runs: read from a CSV, and one scale for each stack on each device with what it leaves.

The scale is the posterior mean of log(measured / predicted) under a normal prior around 1, so that one run moves it
most of the way and three nearly all of it; the interval is that of further runs, from errors of each run predicted by
the others together with what the shipped calibration says of unseen runs.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.estimate import estimate, machine
from simtrain.search.layout import Layout
from simtrain.spec.base import Evidence, Fact
from simtrain.spec.calibration import OwnScale, left_out
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.spec.request import Request
from simtrain.validation import corpus
from simtrain.validation.calibrate import NOISE
from simtrain.validation.rows import SCHEDULES
from simtrain.validation.setup import setup

Array = NDArray[np.float64]
JOB: Final = ("model", "cluster", "gpus", "seq", "global_batch", "precision", "optimizer", "stack", "adapter_rank")
PLAIN: Final = {
    **dict.fromkeys(("tp", "pp", "vpp", "cp", "ulysses", "ep", "etp", "micro_batch"), "1"),
    **dict.fromkeys(("zero", "full_layers"), "0"),
    **dict.fromkeys(("recompute", "offload"), "none"),
}
"""Of an empty cell."""
LAYOUT: Final = (*PLAIN, "sp", "shard_group", "schedule")
NEEDED: Final = ("model", "gpus", "global_batch", "step_s")
COLUMNS: Final = tuple(dict.fromkeys((*JOB, *LAYOUT, *corpus.COLUMNS)))
"""Those of runs.csv are known too; what describes no job and no layout is not read."""
UNSAID: Final = (
    ("task", ("", "pretrain", "sft"), "of a LoRA run state adapter_rank instead"),
    ("fsdp", ("", "false", "0"), "state zero = 3 instead"),
)
"""Columns of runs.csv that change what a run is, what they may hold, and what to do else."""
YES: Final = {"true": True, "1": True, "yes": True, "": False, "false": False, "0": False, "no": False}
SPREAD: Final = 0.15
"""How far (standard deviation of the logarithm) all runs of a stack on a device may lie from the shipped calibration:
a judgement, as left-out errors of whole pairs are about 5 to 20 % in the median (profiles/calibration/errors.toml)."""
PRIOR_RUNS: Final = 2
"""Runs of one's own that weigh as much as the shipped errors in the interval: a judgement."""
NINE_TENTHS: Final = 1.645
"""Standard deviations that hold 90 % of a normal distribution."""


@dataclass(frozen=True)
class OwnRun:
    """One measured run."""

    name: str
    job: Job
    plan: Plan
    step_time: float
    predicted: float
    """Seconds, by the shipped calibration."""


@dataclass(frozen=True)
class OwnFit:
    """The scale of one stack on one device, and log(predicted / measured) of its runs."""

    scale: OwnScale
    runs: tuple[OwnRun, ...]
    raw: Array
    after: Array
    """With the scale."""
    left_out: Array
    """With the scale of the other runs."""


def read(path: Path) -> list[OwnRun]:
    """The runs of a CSV; WrongInput with every problem of every row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            lines = [(reader.line_num, cells) for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WrongInput([Problem("--runs", str(path), f"cannot be read: {error}")]) from None
    problems = [
        Problem(f"{path.name} column", name, "is not known", nearest(name, COLUMNS))
        for name in columns
        if name not in COLUMNS
    ]
    problems += [Problem(f"{path.name} column", name, "is missing") for name in NEEDED if name not in columns]
    if not {"cluster", "gpu"} & set(columns):
        problems.append(Problem(f"{path.name} column", "cluster", "is missing", "or name the device in a column gpu"))
    if not lines:
        problems.append(Problem(str(path), None, "holds no runs"))
    if problems:
        raise WrongInput(problems)
    runs = []
    for line, cells in lines:
        where = f"{path.name} line {line}"
        if None in cells or None in cells.values():
            problems.append(Problem(where, None, f"must have {len(columns)} cells"))
            continue
        try:
            runs.append(_run({name: text.strip() for name, text in cells.items()}, where, path.parent))
        except WrongInput as wrong:
            problems += [Problem(f"{where} {p.where.lstrip('-')}", p.value, p.rule, p.hint) for p in wrong.problems]
    if problems:
        raise WrongInput(problems)
    return runs


def _run(cells: Mapping[str, str], where: str, folder: Path) -> OwnRun:
    """One row, read like the command line of `simtrain simulate`; WrongInput with every problem."""
    problems: list[Problem] = []
    try:
        step_time = float(cells["step_s"])
    except ValueError:
        step_time = np.nan
    if not 0 < step_time < np.inf:
        problems.append(Problem("step_s", cells["step_s"], "must be the measured seconds of a step, above 0"))
    if cells.get("status", "") not in ("", "ok"):
        problems.append(Problem("status", cells["status"], "is a run without a step time", "leave the row out"))
    problems += [
        Problem(name, cells[name], "cannot be said of a run of your own", hint)
        for name, plain, hint in UNSAID
        if cells.get(name, "").lower() not in plain
    ]
    if cells.get("sp", "").lower() not in YES:
        problems.append(Problem("sp", cells["sp"], "must be true or false"))
    layout = _layout(cells)
    try:
        job = _request(cells, folder).job()
    except WrongInput as wrong:
        raise WrongInput([*problems, *wrong.problems, *layout.problems()]) from None
    try:
        plan = layout.plan(job)
    except WrongInput as wrong:
        raise WrongInput([*problems, *wrong.problems]) from None
    if cells.get("dp", "") not in ("", str(plan.dp)):
        problems.append(Problem("dp", cells["dp"], f"does not follow: the other degrees leave {plan.dp}"))
    if problems:
        raise WrongInput(problems)
    predicted = float(estimate(job, PlanTable.of([plan]), machine(job)).step_time[0])
    return OwnRun(cells.get("id") or where, job, plan, step_time, predicted)


def _request(cells: Mapping[str, str], folder: Path) -> Request:
    """The job of a row: names as on the command line, files beside the CSV, devices and formats as in runs.csv."""
    stated = {name: cells[name] for name in JOB if cells.get(name)}
    known, settings = cells.get("gpu", ""), setup()
    if "cluster" not in stated and known:
        if known not in settings.clusters:
            raise WrongInput([Problem("gpu", known, "is on no known cluster", nearest(known, settings.clusters))])
        stated["cluster"] = settings.clusters[known].value
    if stated.get("precision") in settings.precisions:
        stated["precision"] = settings.precisions[stated["precision"]].value
    for name in ("model", "cluster"):
        if (folder / stated.get(name, "")).is_file():
            stated[name] = str(folder / stated[name])
    return Request(**stated)


def _layout(cells: Mapping[str, str]) -> Layout:
    stated: dict[str, Any] = {name: cells.get(name) or PLAIN.get(name) for name in LAYOUT}
    if stated["offload"].lower() in YES and not YES[stated["offload"].lower()]:
        stated["offload"] = "none"
    stated["sp"] = YES.get(cells.get("sp", "").lower(), False)
    if stated["schedule"] is not None:
        stated["schedule"] = SCHEDULES.get(stated["schedule"].lower(), stated["schedule"])
    return Layout(**stated)


def fits(runs: Sequence[OwnRun], source: str) -> list[OwnFit]:
    """One scale for each stack on each device; `source`: where the runs are from."""
    groups: dict[tuple[str, str], list[OwnRun]] = defaultdict(list)
    for run in runs:
        groups[run.job.stack.name, run.job.cluster.device.name].append(run)
    return [_fit(stack, device, tuple(mine), source) for (stack, device), mine in sorted(groups.items())]


def write(path: Path, found: Sequence[OwnFit]) -> None:
    """Write the scales as a user's calibration file."""
    with path.open("wb") as file:
        tomli_w.dump({"scale": [fit.scale.model_dump(mode="json") for fit in found]}, file)


def _fit(stack: str, device: str, runs: tuple[OwnRun, ...], source: str) -> OwnFit:
    raw = np.log([run.predicted / run.step_time for run in runs])
    scale = _scale(raw)
    others = np.array([raw[i] + _scale(np.delete(raw, i)) for i in range(len(raw))])
    shipped = left_out(stack, device, runs[0].job.cluster.device.profile)
    unseen = SPREAD if shipped is None else max(np.log1p(shipped[0].p90) / NINE_TENTHS, NOISE)
    square = (PRIOR_RUNS * unseen**2 + float((others**2).sum())) / (PRIOR_RUNS + len(raw))
    fact = Fact[float](
        value=float(f"{np.exp(scale):.4g}"),
        source=f"simtrain calibrate --runs {source}: {len(runs)} runs",
        evidence=Evidence.MEASURED_HERE,
    )
    p90 = float(f"{np.expm1(NINE_TENTHS * np.sqrt(square)):.4g}")
    found = OwnScale(stack=stack, device=device, factor=fact, runs=len(runs), p90=p90)
    return OwnFit(found, runs, raw, raw + scale, others)


def _scale(raw: Array) -> float:
    """Logarithm of the scale: minus the mean of log(predicted / measured), drawn to 0 by the prior."""
    return -float(raw.sum()) / (len(raw) + (NOISE / SPREAD) ** 2)
