"""`simtrain report`: a plan file as a page people read."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

HELP = r"""Write a plan file as one HTML page that works offline.

Examples:

  simtrain report plan.json -o report.html
  simtrain report plan.json --rank 3

The answer in one paragraph, where time and memory go, the pipeline's
timeline, the trade-off of time and memory, why the other plans lose, what
would change the answer, what it rests on, and how to run it.

Exit codes: 0 written, 2 wrong input."""

NEXT: Final = {
    "simulate": "simtrain simulate {plan} --rank {rank} --timeline",
    "memory": "simtrain memory {plan} --rank {rank}",
    "trace": "simtrain trace {plan} --rank {rank} -o step.json",
    "explain": "simtrain explain {plan} --rank {rank}",
    "export": "simtrain export {plan} --rank {rank} --to {trainer} -o run",
}
"""What to do with a plan, by verb; a page names the verbs there are."""


def report(
    context: typer.Context,
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file the page is about.")] = "1",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Write the page here.")] = Path(
        "report.html"
    ),
) -> None:
    """Replay the plans of the file and write the page."""
    from simtrain.cli.output import check_writable, note, write_pieces
    from simtrain.cli.planfile import read_plans
    from simtrain.errors import Problem, WrongInput
    from simtrain.views.page import missing_plotly

    problems = [*check_writable(out, example="report.html", instead="name a file"), *missing_plotly("--out", out)]
    if out.suffix != ".html":
        problems.append(Problem("--out", str(out), "is no .html", f"write {out.stem or 'report'}.html"))
    if os.path.realpath(out) == os.path.realpath(plan):
        problems.append(Problem("--out", str(out), "would overwrite what is read", "name another file"))
    try:
        job, ranked, front = read_plans(plan, rank)
    except WrongInput as error:
        raise WrongInput([*error.problems, *problems]) from None
    if problems:
        raise WrongInput(problems)
    from simtrain.export.files import files, settings, trainer_of
    from simtrain.views.report import report as pieces

    known = getattr(context.parent.command if context.parent else None, "commands", {})
    trainer, chosen = trainer_of(job.stack.name), ranked[int(rank) - 1]
    words = {"plan": shlex.quote(str(plan)), "rank": rank, "trainer": trainer}
    commands = [line.format(**words) for verb, line in NEXT.items() if verb in known]
    told = (trainer, next(iter(files(trainer, job, chosen).values())), settings(trainer, job, chosen).lost)
    write_pieces(out, pieces(job, ranked, front, int(rank), commands, told))
    note(f"wrote {out}; open it in a browser")
