"""The best plan of a job as one flat row: a point of a sweep. Keys carry their units."""

from typing import Any, Final

from simtrain.search.quickest import quickest
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.study.bill import bill, rates
from simtrain.study.run import cost, steps
from simtrain.study.step_energy import step_energy
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
STEP: Final = (
    *("cost_per_step_low_usd", "cost_per_step_high_usd"),
    *("step_energy_j", "step_energy_low_j", "step_energy_high_j", "energy_evidence", "energy_off_by"),
)
"""What a step costs at the ends of its interval, and takes at the meter of the site."""
RUN: Final = (
    *("run_time_low_s", "run_time_high_s", "run_cost_low_usd", "run_cost_high_usd"),
    *("run_energy_j", "run_energy_low_j", "run_energy_high_j", "run_carbon_kg", "run_embodied_carbon_kg"),
)
"""The same of the whole run; carbon of its energy, and of making the devices."""


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A plan's row without what is nested: layout, numbers, totals of the run, every field of the plan."""
    plan, run = row["plan"], row["run"] or {}
    return (
        {"layout": layout(Plan.model_validate(plan))}
        | {name: row[name] for name in NUMBERS}
        | {f"run_{name}": run.get(name) for name in TOTALS}
        | {f"plan_{name}": value for name, value in plan.items()}
    )


def intervals(job: Job, row: dict[str, Any]) -> dict[str, Any]:
    """STEP and RUN of a plan's row, passes at the largest clocks, PUE and grid of the cluster (study.bill.rates)."""
    plan, site = Plan.model_validate(row["plan"]), rates(job, None, None, None, None)
    step, low, high = row["step_time_s"], row["step_time_low_s"], row["step_time_high_s"]
    energy = step_energy(job, plan, step, low, high)
    each = (energy.joules, energy.low, energy.high)
    of_step = [cost(job, low), cost(job, high), *(site.pue * joules for joules in each)]
    grounds = (energy.grounds.evidence.value, energy.grounds.off)
    found = dict(zip(STEP, (*of_step, *grounds), strict=True))
    if job.tokens is None:
        return found | dict.fromkeys(RUN)
    count = steps(job, plan.global_batch)
    ends = [(count * length, cost(job, count * length)) for length in (low, high)]
    bills = [bill(site, job.devices, count * step, count * joules) for joules in each]
    whole = (*(time for time, _ in ends), *(money for _, money in ends), *(of.joules for of in bills))
    return found | dict(zip(RUN, (*whole, bills[0].carbon, bills[0].embodied), strict=True))


EMPTY: Final = (
    "layout",
    *NUMBERS,
    *(f"run_{name}" for name in TOTALS),
    *(f"plan_{name}" for name in Plan.model_fields),
    *STEP,
    *RUN,
)
"""Keys of a plan found."""


def best_row(job: Job) -> dict[str, Any]:
    """The plan `simtrain plan` ranks first, flat; all but `fits` and `devices` None where nothing fits."""
    best, made = quickest(job, RANKED)
    first = rows(best, made, [False] * len(best.plans))[:1]
    found = [flat(row) | intervals(job, row) for row in first]
    return {"devices": job.devices, "sequence": job.sequence, "fits": bool(found)} | (
        found[0] if found else dict.fromkeys(EMPTY)
    )
