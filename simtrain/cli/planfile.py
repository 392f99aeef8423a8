"""Reading a plan file back: job and one of its plans."""

import json
from pathlib import Path
from typing import Any

from simtrain.cli.output import note
from simtrain.errors import Problem, WrongInput
from simtrain.search.layout import described, stated
from simtrain.search.space import broken_rules
from simtrain.spec.base import checked
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.views.document import FORMAT_VERSION
from simtrain.workload.strategies.pipeline import stage_layers


def read_plan(path: Path, rank: str) -> tuple[Job, Plan]:
    """Job and plan number `rank` (1 is the best) of a file written by `simtrain plan --out`."""
    document = read_document(path)
    found = _chosen(path, document["job"], document["plans"], rank)
    if has_clocks(document, rank):
        clocks = "simtrain energy --csv FILE writes them, simulate --durations FILE runs them"
        note(f"{path} has clocks for this plan; it is taken at the largest ones here: {clocks}")
    if "course" in document:
        note(f"{path} holds a step with --order, --slow or --durations of its own; this is its plan without them")
    return found


def has_clocks(document: dict[str, Any], rank: str) -> bool:
    """Whether a plan of a plan file, which is there, has a schedule of clocks."""
    return "frequency_plan" in document["plans"][int(rank) - 1]


def read_plans(path: Path, rank: str) -> tuple[Job, list[Plan], list[Plan]]:
    """Job, ranked plans and Pareto front of such a file; `rank` must be one of the plans'."""
    document = read_document(path)
    job = _chosen(path, document["job"], document["plans"], rank)[0]
    problems: list[Problem] = []

    def every(key: str) -> list[Plan]:
        listed, found = document.get(key, []), []
        if not isinstance(listed, list):
            problems.append(Problem(f"{path}: {key}", None, "must be a list of plans"))
            return []
        for number in range(1, len(listed) + 1):
            try:
                found.append(_chosen(path, document["job"], listed, str(number), key)[1])
            except WrongInput as wrong:
                problems.extend(wrong.problems)
        return found

    ranked, front = every("plans"), every("pareto")
    if problems:
        raise WrongInput(problems)
    return job, ranked, front


def read_document(path: Path) -> dict[str, Any]:
    """The content of a plan file of this version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise WrongInput([Problem(str(path), None, f"is not valid JSON: {error}")]) from None
    except OSError as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error.strerror}")]) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error}")]) from None
    if not isinstance(document, dict) or "job" not in document or not isinstance(document.get("plans"), list):
        raise WrongInput([Problem(str(path), None, "is not a plan file", "write one with simtrain plan ... --out")])
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        rule = f"this simtrain reads version {FORMAT_VERSION}"
        raise WrongInput([Problem(f"{path}: format_version", version, rule, "write it again with simtrain plan")])
    return document


def _chosen(path: Path, job_data: object, plans: list[object], rank: str, key: str = "plans") -> tuple[Job, Plan]:
    """Job and plan; what is wrong with rank, job and plan is reported together."""
    problems: list[Problem] = []
    job = plan = None
    try:
        job = checked(Job, job_data, f"{path}: job")
    except WrongInput as wrong:
        problems.extend(wrong.problems)
    if not plans:
        problems.append(Problem(f"{path}: plans", None, "is empty: nothing fitted when it was written"))
    elif not rank.isdecimal() or not 1 <= int(rank) <= len(plans):
        problems.append(Problem("--rank", rank, f"the file holds plans 1 to {len(plans)}"))
    else:
        chosen = plans[int(rank) - 1]
        where = f"{path}: {key}.{rank}.plan"
        try:
            plan = checked(Plan, chosen.get("plan") if isinstance(chosen, dict) else chosen, where)
        except WrongInput as wrong:
            problems.extend(wrong.problems)
    if problems or job is None or plan is None:
        raise WrongInput(problems)
    try:
        table = PlanTable.of([plan])
        broken = broken_rules(job, table)[0]
        problems = [Problem(f"{where}: {described(job, table, rule)}", None, stated(rule)) for rule in broken]
        if plan.memory is not None:
            problems += plan.memory.problems(f"{where}.memory", stage_layers(job, table))
    except OverflowError:
        problems = [Problem(str(path), None, "holds a number beyond 64 bits")]
    if problems:
        raise WrongInput(problems)
    return job, plan
