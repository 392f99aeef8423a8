"""`simtrain trace`: a plan's step, replayed, as a trace for ui.perfetto.dev."""

import os
from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import OwnDurations, OwnOrder, Slow

HELP = r"""Replay one step of a plan and write when every stage does what, to be opened in ui.perfetto.dev.

Examples:

  simtrain trace plan.json -o step.json
  simtrain trace plan.json --rank 3 -o step.json.gz
  simtrain trace plan.json --slow replica=1:1.1 --durations passes.csv

A process is a pipeline stage, a track one of its streams; counters below
them say what memory is used for. Click a pass to follow its microbatch from
stage to stage. Tensor, context and expert communication is spread over the
layers of a pass, and drawn on tracks of its own: what runs beside products
from the start of the pass, what holds it up at its end.

Exit codes: 0 written, 2 wrong input."""


def trace(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
    order: OwnOrder = None,
    slow: Slow = None,
    durations: OwnDurations = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Write the trace here; compressed if it ends in .gz.")
    ] = Path("step.json"),
) -> None:
    """Replay the plan and write its trace."""
    from simtrain.cli.course import read_course
    from simtrain.cli.output import check_writable, note, write_pieces
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import Problem, WrongInput
    from simtrain.estimate import machine
    from simtrain.estimate.replayed import replayed
    from simtrain.views.trace import trace as pieces

    problems = check_writable(out, example="step.json", instead="name a file")
    if os.path.realpath(out) == os.path.realpath(plan):
        problems.append(Problem("--out", str(out), "would overwrite what is read", "name another file"))
    course = read_course(order, slow, durations, problems)
    try:
        job, chosen = read_plan(plan, rank)
    except WrongInput as error:
        raise WrongInput([*error.problems, *problems]) from None
    if problems:
        raise WrongInput(problems)
    found = replayed(job, chosen, machine(job), course)
    write_pieces(out, pieces(found.step, found.footprint, found.categories))
    note(f"wrote {out}; open it in ui.perfetto.dev")
