"""Reading a plan file back: job and one of its plans."""

import json
from pathlib import Path

from simtrain.errors import Problem, WrongInput
from simtrain.search.space import broken_rules
from simtrain.spec.base import checked
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan, PlanTable
from simtrain.views.document import FORMAT_VERSION


def read_plan(path: Path, rank: str) -> tuple[Job, Plan]:
    """Job and plan number `rank` (1 is the best) of a file written by `simtrain plan --out`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise WrongInput([Problem(str(path), None, f"is not valid JSON: {error}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error}")]) from None
    if not isinstance(document, dict) or "job" not in document or not isinstance(document.get("plans"), list):
        raise WrongInput([Problem(str(path), None, "is not a plan file", "write one with simtrain plan ... --out")])
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise WrongInput([Problem(f"{path}: format_version", version, f"this simtrain reads version {FORMAT_VERSION}")])
    plans = document["plans"]
    if not rank.isdecimal() or not 1 <= int(rank) <= len(plans):
        raise WrongInput([Problem("--rank", rank, f"the file holds plans 1 to {len(plans)}")])
    job = checked(Job, document["job"], f"{path}: job")
    chosen = plans[int(rank) - 1]
    plan = checked(Plan, chosen.get("plan") if isinstance(chosen, dict) else chosen, f"{path}: plans.{rank}.plan")
    broken = broken_rules(job, PlanTable.of([plan]))[0]
    if broken:
        raise WrongInput([Problem(f"{path}: plan", None, f"{rule.name}: {rule.reason}") for rule in broken])
    return job, plan
