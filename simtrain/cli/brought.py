"""`simtrain simulate --from`: another trainer's configuration, predicted and compared with the best plan."""

from pathlib import Path
from typing import Final

import typer

from simtrain.errors import Problem, WrongInput

JOB: Final = ("gpus", "seq", "global_batch", "tokens", "precision", "optimizer", "stack", "adapter_rank", "freeze")
LAYOUT: Final = (
    "tp", "sp", "pp", "vpp", "cp", "ulysses", "ep", "etp", "zero", "shard_group", "schedule", "micro_batch",
    "recompute", "full_layers", "offload",
)  # fmt: skip
RANKED: Final = 5


def simulate_brought(context: typer.Context) -> None:
    """Read, predict, compare and print; exit code 1 where it does not fit."""
    from simtrain.cli.inputs import calibrated, unreadable
    from simtrain.cli.output import console, print_json, progress
    from simtrain.estimate import machine
    from simtrain.estimate.replayed import predicted
    from simtrain.export.files import changes
    from simtrain.export.imports import brought
    from simtrain.search.search import search
    from simtrain.spec.request import Request
    from simtrain.views.brought import document, print_brought

    given = context.params
    stated = [
        name
        for name in given
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    ]
    problems = unreadable(given["calibration"])
    problems += [
        Problem("--" + name, None, "says nothing about a configuration of another trainer", "leave it out")
        for name in ("rank", "order", "slow", "durations", "timeline")
        if name in stated
    ]
    trainer, told = given["from_"]
    model, cluster = (given["model"], given["cluster"]) if given["cluster"] is not None else (None, given["model"])
    request = Request(model=model, cluster=cluster, **{name: given[name] for name in JOB})
    try:
        read = brought(trainer, _text(told), request, {n: given[n] for n in LAYOUT if n in stated})
    except WrongInput as wrong:
        raise WrongInput([*problems, *wrong.problems]) from None
    if problems:
        raise WrongInput(problems)
    job = calibrated(read.job, given["calibration"])
    mine = predicted(job, [read.plan], machine(job))
    with progress("searching") as update:
        best = search(job, RANKED, update)
    winner = best.best.plans.plan(0) if len(best.best.plans) else read.plan
    answer = document(trainer, job, read.imported, mine, best, changes(trainer, job, read.plan, winner))
    if given["as_json"]:
        print_json(answer)
    else:
        print_brought(console(), job, answer)
    if not answer["plans"][0]["fits"]:
        raise typer.Exit(1)


def _text(given: str) -> str:
    """What was given where it looks like a configuration, else what the file of that name holds."""
    hint = "name a file, or give arguments that begin with --"
    if not given.strip():
        raise WrongInput([Problem("--from", given, "is empty", hint)])
    if given.lstrip().startswith(("-", "{", "[")) or "\n" in given or " --" in given:
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except OSError as error:
        raise WrongInput([Problem("--from", given, f"cannot be read: {error.strerror}", hint)]) from None
    except UnicodeDecodeError:
        raise WrongInput([Problem("--from", given, "cannot be read: is not UTF-8 text")]) from None
