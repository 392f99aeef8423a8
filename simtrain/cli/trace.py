"""`simtrain trace`: a plan's step, replayed, as a trace for ui.perfetto.dev."""

import os
from pathlib import Path
from typing import Annotated

import typer

HELP = r"""Replay one step of a plan and write when every stage does what, to be opened in ui.perfetto.dev.

Examples:

  simtrain trace plan.json -o step.json
  simtrain trace plan.json --rank 3

A process is a pipeline stage, a track one of its streams; counters below
them say what memory is used for. Click a pass to follow its microbatch from
stage to stage. Communication inside a pass is drawn in one piece at its end,
though it is spread over the layers.

Exit codes: 0 written, 2 wrong input."""


def trace(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
    order: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A schedule of your own, as in simtrain simulate --order.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Write the trace here.")] = Path("step.json"),
) -> None:
    """Replay the plan and write its trace."""
    from simtrain.cli.orderfile import read_order
    from simtrain.cli.output import check_writable, note, write_pieces
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import Problem, WrongInput
    from simtrain.estimate import machine
    from simtrain.estimate.replayed import replayed
    from simtrain.views.trace import trace as pieces

    problems = check_writable(out, example="step.json", instead="name a file")
    if os.path.realpath(out) == os.path.realpath(plan):
        problems.append(Problem("--out", str(out), "would overwrite what is read", "name another file"))
    given = None
    try:
        given = None if order is None else read_order(order)
    except WrongInput as error:
        problems.extend(error.problems)
    try:
        job, chosen = read_plan(plan, rank)
    except WrongInput as error:
        raise WrongInput([*error.problems, *problems]) from None
    if problems:
        raise WrongInput(problems)
    found = replayed(job, chosen, machine(job), given)
    write_pieces(out, pieces(found.step, found.footprint, found.categories))
    note(f"wrote {out}; open it in ui.perfetto.dev")
