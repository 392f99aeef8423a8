"""Several numbers of devices, read from `--gpus`: a list `1024,2048`, or every whole node of `1000..3000`."""

from dataclasses import replace
from typing import Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.job import Job
from simtrain.spec.request import Request

MOST: Final = 512
"""Sizes one aim may choose from."""
LIKE: Final = "write it like 64, 1024,2048 or 1000..3000"


def several(text: str | None) -> bool:
    """Whether more than one number is meant."""
    return text is not None and ("," in text or ".." in text)


def largest(asked: Request) -> Request:
    """The request for the most devices it names; WrongInput where they are no numbers."""
    if not several(asked.gpus):
        return asked
    return replace(asked, gpus=str(max(_numbers(asked.gpus or ""))))


def sizes(asked: Request, job: Job) -> list[Job]:
    """The job on every number of devices, none twice; `job` is that of the `largest`."""
    text = asked.gpus or ""
    if not several(text):
        return [job]
    counts = _numbers(text)
    if ".." in text:
        node, (low, high) = job.cluster.node.devices, counts
        counts = list(range(-(-low // node) * node, high + 1, node))
    if len(counts) > MOST:
        raise WrongInput([Problem("--gpus", text, f"is {len(counts):,} sizes, at most {MOST} are compared", LIKE)])
    problems: list[Problem] = []
    for count in counts if ".." not in text else ():
        try:
            replace(asked, gpus=str(count)).job()
        except WrongInput as wrong:
            problems += wrong.problems
    if problems:
        raise WrongInput(problems)
    return [job.model_copy(update={"devices": count}) for count in sorted(set(counts))]


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in (text.split("..") if ".." in text else text.split(","))]
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or (".." in text and len(parts) != 2):
        raise WrongInput([Problem("--gpus", text, "is neither a list nor a range of whole numbers", LIKE)])
    found = [int(part) for part in parts]
    if ".." in text and found[0] > found[1]:
        raise WrongInput([Problem("--gpus", text, "runs backwards", f"write {parts[1]}..{parts[0]}")])
    return found
