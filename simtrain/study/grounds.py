"""What a prediction and its interval rest on."""

from dataclasses import dataclass, replace
from typing import Final

from simtrain.estimate.replayed import predicted
from simtrain.price.blocks import Machine
from simtrain.spec.base import Evidence
from simtrain.spec.calibration import DEFAULT, LeftOut, left_out
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan

SLOWER: Final = 0.1
"""Share by which each rate is lowered to see what hangs on it."""
RATES: Final = {
    "matmul": "matrix multiplies",
    "attention": "fused attention",
    "unfused_attention": "unfused attention",
    "elementwise": "element-wise kernels",
    "scaleup": "collectives inside a scale-up domain",
    "network": "collectives between domains",
}
"""What the rates of DeviceRates are of."""


@dataclass(frozen=True)
class Rest:
    """A rate that the step time rests on."""

    what: str
    longer: float
    """Seconds a step takes longer if the rate is `SLOWER`."""
    evidence: Evidence
    source: str


@dataclass(frozen=True)
class Grounds:
    """Where the interval is from, and what moves the prediction."""

    errors: LeftOut | None
    """Of runs left out of a fit, if they are what the interval rests on."""
    errors_of: str
    """A stack, a device, both, or the user's own runs; empty without errors."""
    own_runs: int
    """Runs of the user's own that the interval rests on; 0 without."""
    device: Evidence
    """How the device's kernels are known."""
    rests: tuple[Rest, ...]
    """Rates, what hangs most on them first; those nothing hangs on are left out."""
    assumed: tuple[str, ...]
    """Facts of stack and cluster that nobody measured or published."""


def grounds(job: Job, plan: Plan, on: Machine) -> Grounds:
    """What the prediction for one plan of a job rests on, by estimating it again with every rate lowered."""
    now = float(predicted(job, [plan], on)[0].step_time[0])
    rests = []
    for name, what in RATES.items():
        fact = getattr(on.rates, name)
        lower = fact.model_copy(update={"value": fact.value / (1 + SLOWER)})
        changed = replace(on, rates=on.rates.model_copy(update={name: lower}))
        longer = float(predicted(job, [plan], changed)[0].step_time[0]) - now
        if longer > 0:
            rests.append(Rest(what, longer, fact.evidence, fact.source))
    device = job.cluster.device
    seen = left_out(job.stack.name, device.name, device.profile)
    runs = 0 if job.own is None else job.own.runs
    return Grounds(
        errors=None if seen is None or runs else seen[0],
        errors_of="" if seen is None or runs else _of(seen[1]),
        own_runs=runs,
        device=on.profile.evidence,
        rests=tuple(sorted(rests, key=lambda rest: -rest.longer)),
        assumed=tuple(_assumed(job)),
    )


def _of(name: str) -> str:
    return "all stacks and devices" if name == DEFAULT else name


def _assumed(job: Job) -> list[str]:
    """Names of the stack's and the fabric's facts whose evidence is an assumption."""
    found = []
    for where, data in (("stack", job.stack.model_dump()), ("cluster.fabric", job.cluster.fabric.model_dump())):
        for name, value in data.items():
            parts = {name: value} if isinstance(value, dict) and "evidence" in value else _nested(name, value)
            found += [f"{where}.{key}" for key, fact in parts.items() if fact["evidence"] == Evidence.ASSUMED]
    return found


def _nested(name: str, value: object) -> dict[str, dict[str, object]]:
    if not isinstance(value, dict):
        return {}
    return {f"{name}.{key}": fact for key, fact in value.items() if isinstance(fact, dict) and "evidence" in fact}
