"""What a plan shall be best by, and within which limits, read from the command line."""

from simtrain.cli.inputs import tried
from simtrain.errors import Problem, nearest
from simtrain.spec.job import Job
from simtrain.study.bill import intensity, quantity
from simtrain.study.objective import OBJECTIVES, Aim, Limits


def aimed(
    problems: list[Problem],
    job: Job | None,
    objective: str | None,
    deadline: str | None,
    budget: str | None,
    power_cap: str | None,
    grid: str | None,
    tariff: str | None,
) -> Aim | None:
    """The aim, None where none is stated; what is wrong with it, or with it for this job, is added to `problems`."""
    stated = (deadline, budget, power_cap, grid, tariff)
    if objective is None and all(value is None for value in stated):
        return None
    name = "time" if objective is None else objective
    if name not in OBJECTIVES:
        problems.append(Problem("--objective", name, "is not one of them", nearest(name, OBJECTIVES)))
    if job is not None:
        problems.extend(void(job, name, deadline, budget, tariff))
    limits = Limits(
        tried(problems, quantity, deadline, "s", "--deadline", "30 d"),
        tried(problems, quantity, budget, "USD", "--budget"),
        tried(problems, quantity, power_cap, "W", "--power-cap", "5 MW"),
    )
    return Aim(name, limits, tried(problems, intensity, grid), tried(problems, quantity, tariff, "USD/J", "--tariff"))


def void(job: Job, objective: str, deadline: str | None, budget: str | None, tariff: str | None) -> list[Problem]:
    """What is asked of money or of a whole run where the job states neither."""
    problems = []
    if job.cluster.price is None and tariff is None:
        hint = "state --tariff, or a price in the cluster's file"
        rule = f"needs money, but {job.cluster.name} states no price"
        if objective == "cost":
            problems.append(Problem("--objective", objective, rule, hint))
        if budget is not None:
            problems.append(Problem("--budget", budget, rule, hint))
    if job.tokens is None:
        problems.extend(
            Problem(flag, value, "is of a run, but the job states no tokens", "state --tokens")
            for flag, value in (("--deadline", deadline), ("--budget", budget))
            if value is not None
        )
    return problems
