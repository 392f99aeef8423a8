"""What a plan shall be best by, and within which limits, read from the command line."""

from simtrain.cli.inputs import tried
from simtrain.errors import Problem, nearest
from simtrain.study.bill import intensity, quantity
from simtrain.study.objective import OBJECTIVES, Aim, Limits


def aimed(
    problems: list[Problem],
    objective: str | None,
    deadline: str | None,
    budget: str | None,
    power_cap: str | None,
    grid: str | None,
    tariff: str | None,
) -> Aim | None:
    """The aim, None where none is stated; what is wrong is added to `problems`."""
    stated = (deadline, budget, power_cap, grid, tariff)
    if objective is None and all(value is None for value in stated):
        return None
    name = "time" if objective is None else objective
    if name not in OBJECTIVES:
        problems.append(Problem("--objective", name, "is not one of them", nearest(name, OBJECTIVES)))
    limits = Limits(
        tried(problems, quantity, deadline, "s", "--deadline"),
        tried(problems, quantity, budget, "USD", "--budget"),
        tried(problems, quantity, power_cap, "W", "--power-cap"),
    )
    return Aim(name, limits, tried(problems, intensity, grid), tried(problems, quantity, tariff, "USD/J", "--tariff"))
