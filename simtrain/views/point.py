"""The best plan of a job as one flat row: a point of a sweep. Keys carry their units."""

from typing import Any, Final

from simtrain.search.quickest import quickest
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.views.document import rows
from simtrain.views.layout import layout

RANKED: Final = 5
"""Plans replayed before the first is taken, as many as `simtrain plan` ranks."""
NUMBERS: Final = (
    "step_time_s",
    "step_time_low_s",
    "step_time_high_s",
    "tokens_per_s",
    "mfu",
    "memory_bytes",
    "memory_margin_bytes",
    "host_memory_bytes",
    "measured_share",
    "cost_per_step_usd",
)
"""Of a plan's row."""
TOTALS: Final = ("steps", "time_s", "device_time_s", "cost_usd")
"""Of the whole run, where the job states tokens."""


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A plan's row without what is nested: layout, numbers, totals of the run, every field of the plan."""
    plan, run = row["plan"], row["run"] or {}
    return (
        {"layout": layout(Plan.model_validate(plan))}
        | {name: row[name] for name in NUMBERS}
        | {f"run_{name}": run.get(name) for name in TOTALS}
        | {f"plan_{name}": value for name, value in plan.items()}
    )


EMPTY: Final = (
    "layout",
    *NUMBERS,
    *(f"run_{name}" for name in TOTALS),
    *(f"plan_{name}" for name in Plan.model_fields),
)
"""Keys of `flat`."""


def best_row(job: Job) -> dict[str, Any]:
    """The plan `simtrain plan` ranks first, flat; all but `fits` and `devices` None where nothing fits."""
    best, made = quickest(job, RANKED)
    found = [flat(row) for row in rows(best, made, [False] * len(best.plans))[:1]]
    return {"devices": job.devices, "sequence": job.sequence, "fits": bool(found)} | (
        found[0] if found else dict.fromkeys(EMPTY)
    )
