"""How good predictions of published runs are: formulas over predictions, no I/O.

A sweep is what somebody could have chosen from for the same work: rows of one source, model, GPU, number of GPUs,
sequence length, global batch and number format. Rank and regret are taken inside a sweep only.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from simtrain.validation.corpus import Row
from simtrain.validation.score import Prediction

Array = NDArray[np.float64]
GIB: Final = 2.0**30
RANKED: Final = 4
"""Timed rows below which a sweep has no rank: three rows agree by chance too often."""
CHOSEN: Final = 2
"""Timed rows below which there is nothing to pick."""


@dataclass(frozen=True)
class Errors:
    """Relative errors predicted / measured - 1 (1): count, mean and median absolute, 90th percentile, mean (bias)."""

    count: int
    mape: float
    median: float
    p90: float
    bias: float


def errors(ratio: Array) -> Errors | None:
    """Errors of predicted over measured values; None of nothing."""
    if not len(ratio):
        return None
    wrong = ratio - 1
    size = np.abs(wrong)
    return Errors(
        len(ratio),
        float(size.mean()),
        float(np.median(size)),
        float(np.quantile(size, 0.9)),
        float(wrong.mean()),
    )


def rescaled(predictions: Sequence[Prediction]) -> Array:
    """Ratios of timed predictions after one factor for each source and GPU that brings their median to 1."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, p in enumerate(predictions):
        groups[p.row.source, p.row.gpu].append(index)
    ratio = np.array([p.ratio for p in predictions])
    for members in groups.values():
        ratio[members] /= np.median(ratio[members])
    return ratio


def timed(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Predicted rows that ran and have a measured step time."""
    return [p for p in predictions if p.unsupported is None and p.row.status == "ok" and p.row.step_s is not None]


def sweep_key(row: Row) -> tuple[Any, ...]:
    """What is the same in a sweep."""
    return (row.source, row.model, row.gpu, row.gpus, row.seq, row.global_batch, row.precision)


SWEEP_FIELDS: Final = ("source", "model", "gpu", "gpus", "seq", "global_batch", "precision")


def sweeps(predictions: Iterable[Prediction]) -> list[tuple[tuple[Any, ...], list[Prediction]]]:
    """Predictions by sweep, in order of first appearance."""
    groups: dict[tuple[Any, ...], list[Prediction]] = {}
    for p in predictions:
        groups.setdefault(sweep_key(p.row), []).append(p)
    return list(groups.items())


def rank(predictions: Sequence[Prediction]) -> float | None:
    """Spearman rank correlation of predicted and measured times of one sweep; None of fewer than RANKED rows."""
    rows = timed(predictions)
    if len(rows) < RANKED:
        return None
    measured = np.array([p.row.step_s for p in rows], float)
    predicted = np.array([p.step_time for p in rows])
    if np.ptp(measured) == 0 or np.ptp(predicted) == 0:
        return None
    return float(spearmanr(measured, predicted).statistic)


def regret(predictions: Sequence[Prediction]) -> float | None:
    """Measured time of the timed row predicted fastest over the fastest measured one, less 1."""
    rows = timed(predictions)
    if len(rows) < CHOSEN:
        return None
    measured = [float(p.row.step_s or np.nan) for p in rows]
    pick = int(np.argmin([p.step_time for p in rows]))
    return measured[pick] / min(measured) - 1


def pick_ran(predictions: Sequence[Prediction]) -> bool | None:
    """Whether the row that `simtrain plan` would rank first is one that ran; None where no row ran out of memory.

    That is the fastest of those predicted to leave the planner's headroom or, where none does, to fit.
    """
    rows = [p for p in predictions if p.unsupported is None and p.row.status in ("ok", "oom")]
    fitting = [p for p in rows if p.roomy] or [p for p in rows if p.fits]
    if not fitting or all(p.row.status == "ok" for p in rows):
        return None
    return min(fitting, key=lambda p: p.step_time).row.status == "ok"


def verdicts(predictions: Iterable[Prediction], planned: bool = False) -> dict[str, Any] | None:
    """Confusion of `fits` with what happened; out of memory counts as positive. None of no rows with a verdict.

    `planned`: what leaves less free than ranked plans do is said not to fit, as `simtrain plan` would.
    """
    rows = [p for p in predictions if p.unsupported is None and p.row.status in ("ok", "oom")]
    if not rows:
        return None
    happened = np.array([p.row.status == "oom" for p in rows])
    said = np.array([not (p.roomy if planned else p.fits) for p in rows])
    return {
        "oom_said_oom": int((happened & said).sum()),
        "oom_said_fits": int((happened & ~said).sum()),
        "ran_said_fits": int((~happened & ~said).sum()),
        "ran_said_oom": int((~happened & said).sum()),
        "accuracy": float((happened == said).mean()),
    }


def memory_ratio(predictions: Iterable[Prediction]) -> Array:
    """Predicted over measured peak memory of the rows that have a figure, both as their source counts."""
    rows = [p for p in predictions if p.unsupported is None and p.row.peak_mem_gib is not None]
    return np.array([p.memory / (GIB * float(p.row.peak_mem_gib or np.nan)) for p in rows])


def interval_coverage(predictions: Iterable[Prediction]) -> float | None:
    """Share of timed rows measured inside their predicted interval."""
    rows = timed(predictions)
    if not rows:
        return None
    return float(np.mean([p.low <= float(p.row.step_s or np.nan) <= p.high for p in rows]))


def figures(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Everything of a group of predictions as plain data; shares and relative errors are fractions."""
    rows = timed(predictions)
    covered = sum(p.unsupported is None for p in predictions)
    parts = [members for _, members in sweeps(predictions)]
    return {
        "rows": len(predictions),
        "covered": covered,
        "coverage": covered / len(predictions) if predictions else None,
        "time": _plain(errors(np.array([p.ratio for p in rows]))),
        "time_after_scale": _plain(errors(rescaled(rows))),
        "rank": _mean(rank, parts),
        "regret": _mean(regret, parts),
        "pick_ran": _mean(pick_ran, parts),
        "sweeps_ranked": sum(rank(part) is not None for part in parts),
        "oom": verdicts(predictions),
        "oom_as_planned": verdicts(predictions, planned=True),
        "memory": _plain(errors(memory_ratio(predictions))),
        "interval_coverage": interval_coverage(predictions),
    }


def summary(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Figures of all rows, of every source and of every sweep."""
    sources: dict[str, list[Prediction]] = {}
    for p in predictions:
        sources.setdefault(p.row.source, []).append(p)
    return {
        "all": figures(predictions),
        "sources": {source: _of_source(members) for source, members in sorted(sources.items())},
    }


def _of_source(members: list[Prediction]) -> dict[str, Any]:
    more = {"unsupported": _counted(members), "sweeps": [_of_sweep(*s) for s in sweeps(members)]}
    return figures(members) | {"time_by_nodes": _by_nodes(members)} | more


def _by_nodes(members: list[Prediction]) -> dict[str, Any]:
    """Errors of runs on one node and on several, where the row says how large a node is."""
    rows = [p for p in timed(members) if p.row.gpus_per_node is not None]
    one = np.array([p.row.gpus <= (p.row.gpus_per_node or 0) for p in rows], dtype=bool)
    ratio = np.array([p.ratio for p in rows])
    return {"one": _plain(errors(ratio[one])), "several": _plain(errors(ratio[~one]))}


def _counted(members: Iterable[Prediction]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for p in members:
        if p.unsupported is not None:
            counts[p.unsupported] = counts.get(p.unsupported, 0) + 1
    return counts


def _of_sweep(key: tuple[Any, ...], members: list[Prediction]) -> dict[str, Any]:
    found = figures(members)
    return dict(zip(SWEEP_FIELDS[1:], key[1:], strict=True)) | found


def _plain(found: Errors | None) -> dict[str, Any] | None:
    return None if found is None else vars(found)


def _mean(of: Callable[[list[Prediction]], float | None], parts: Iterable[list[Prediction]]) -> float | None:
    values = [value for value in map(of, parts) if value is not None]
    return float(np.mean(values)) if values else None
