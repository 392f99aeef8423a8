"""Answers as plain data: what `--json` prints and plan files hold. Keys carry their units; later versions add keys."""

from pathlib import Path
from typing import Any, Final

import numpy as np

from simtrain.estimate import TERMS, Detail, Estimate
from simtrain.estimate.course import Course
from simtrain.search.search import Search
from simtrain.spec.job import Job
from simtrain.study.run import cost, run
from simtrain.timeline.memory import CLASSES
from simtrain.views.reason import reasons
from simtrain.workload.strategies.pipeline import REPRESENTATIVES

FORMAT_VERSION: Final = 1


def rows(estimate: Estimate, detail: Detail, ties: list[bool]) -> list[dict[str, Any]]:
    """One dictionary a plan, best first."""
    job, plans = estimate.job, estimate.plans
    full, causal = estimate.mfu(False), estimate.mfu(True)
    peak = job.cluster.device.peak[job.precision.matmul].value
    hfu = detail.hardware_flops / (estimate.step_time * job.devices * peak)
    why = reasons(estimate, detail)
    return [
        {
            "rank": row + 1,
            "plan": estimate.plan(row).model_dump(mode="json"),
            "step_time_s": float(estimate.step_time[row]),
            "step_time_low_s": float(detail.low[row]),
            "step_time_high_s": float(detail.high[row]),
            "tie": ties[row],
            "mfu": float(full[row]),
            "mfu_causal": float(causal[row]),
            "hfu": float(hfu[row]),
            "tokens_per_s": float(estimate.tokens_per_second[row]),
            "memory_bytes": float(estimate.memory.total[row]),
            "memory_margin_bytes": float(estimate.capacity - estimate.memory.total[row]),
            "host_memory_bytes": float(estimate.memory.host[row]),
            "drives_bytes": float(estimate.memory.drives[row]),
            "fits": bool(estimate.fits[row]),
            "fullest_stage": REPRESENTATIVES[int(estimate.memory.stage[row])],
            "memory_by_class_bytes": dict(zip(CLASSES, estimate.memory.classes[:, row].tolist(), strict=True)),
            "time_by_term_s": dict(zip(TERMS, detail.terms[:, row].tolist(), strict=True)),
            "measured_share": float(detail.measured[row]),
            "cost_per_step_usd": cost(job, float(estimate.step_time[row])),
            "run": run_totals(job, int(plans.global_batch[row]), float(estimate.step_time[row])),
            "reason": why[row],
        }
        for row in range(len(plans))
    ]


def run_totals(job: Job, global_batch: int, step_time: float) -> dict[str, Any] | None:
    """Totals of the whole run, None when the job states no tokens."""
    totals = run(job, global_batch, step_time)
    if totals is None:
        return None
    return {
        "steps": totals.steps,
        "time_s": totals.seconds,
        "device_time_s": totals.device_seconds,
        "cost_usd": totals.cost,
    }


def plan_document(result: Search) -> dict[str, Any]:
    """The answer of a search; also the content of a plan file."""
    closest = result.closest
    document: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "job": result.job.model_dump(mode="json"),
        "plans": rows(result.best, result.detail, result.ties.tolist()),
        "pareto": [
            {
                "plan": result.pareto.plan(row).model_dump(mode="json"),
                "step_time_s": float(result.pareto.step_time[row]),
                "tokens_per_s": float(result.pareto.tokens_per_second[row]),
                "memory_bytes": float(result.pareto.memory.total[row]),
                "cost_per_step_usd": cost(result.job, float(result.pareto.step_time[row])),
            }
            for row in range(len(result.pareto.plans))
        ],
        "counts": {"enumerated": result.tally.enumerated, "legal": result.tally.legal, "fits": result.fits},
        "rejected": dict(sorted(result.tally.rejected.items())),
        "elapsed_s": result.elapsed,
    }
    if len(closest.plans):
        document["least_memory"] = {
            "plan": closest.plan(0).model_dump(mode="json"),
            "memory_bytes": float(closest.memory.total[0]),
            "missing_bytes": max(0.0, float(closest.memory.total[0] - closest.capacity)),
        }
    return document


def simulate_document(job: Job, estimate: Estimate, detail: Detail) -> dict[str, Any]:
    """The answer for given plans."""
    return {
        "format_version": FORMAT_VERSION,
        "job": job.model_dump(mode="json"),
        "plans": rows(estimate, detail, np.zeros(len(estimate.plans), dtype=bool).tolist()),
    }


def course_document(course: Course, order: Path | None, planned: Estimate) -> dict[str, Any]:
    """What of a step was not as planned, its `order` read from a file, and how long the step takes as planned."""
    return {
        "order": None if order is None else str(order),
        "slow": [one.text for one in course.slow],
        "durations": None if course.durations is None else course.durations.name,
        "planned_step_time_s": float(planned.step_time[0]),
    }
