"""`simtrain export`: a plan as what a trainer is told."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import AsJson

HELP = r"""Write a plan as a trainer's own configuration, with scripts to launch it and notes.

Examples:

  simtrain export plan.json --to megatron-lm -o run/
  simtrain export plan.json --rank 2 --to torchtitan -o run/
  simtrain export plan.json --to deepspeed --json

Trainers: megatron-lm, torchtitan, deepspeed, accelerate. The folder holds the
configuration, launch.sh (torchrun, on every node), launch.slurm (sbatch), and
NOTES.md: what the plan says and the trainer cannot be told.

Exit codes: 0 written, 2 wrong input."""


def export(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    to: Annotated[str, typer.Option(metavar="NAME", help="The trainer.")] = "megatron-lm",
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to write; made if there is none.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the files, or print them as JSON."""
    from simtrain.cli.output import note, print_json, write_pieces
    from simtrain.cli.planfile import has_clocks, read_document, read_plan
    from simtrain.errors import Problem, WrongInput, nearest
    from simtrain.export.files import CLOCKS, TRAINERS, files, settings
    from simtrain.views.document import FORMAT_VERSION

    problems = [] if to in TRAINERS else [Problem("--to", to, "is not known", nearest(to, TRAINERS))]
    if out is None and not as_json:
        problems.append(Problem("--out", None, "is missing", "name a folder: -o run/"))
    if out is not None and out.exists() and not out.is_dir():
        problems.append(Problem("--out", str(out), "is not a folder", "name a folder"))
    try:
        job, chosen = read_plan(plan, rank)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *problems]) from None
    if problems:
        raise WrongInput(problems)
    clocks = (CLOCKS,) if has_clocks(read_document(plan), rank) else ()
    written, told = files(to, job, chosen, clocks), settings(to, job, chosen)
    lost = (*told.lost, *clocks)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WrongInput([Problem("--out", str(out), f"cannot be made: {error.strerror}")]) from None
        for name, text in written.items():
            write_pieces(out / name, [text])
    if as_json:
        notes = {"not_expressed": list(lost), "remarks": list(told.remarks)}
        print_json(
            {"format_version": FORMAT_VERSION, "trainer": to, "settings": told.values, **notes, "files": written}
        )
    else:
        typer.echo(next(iter(written.values())), nl=False)
    for what in lost:
        note(f"not expressed: {what}")
    for what in told.remarks:
        note(f"note: {what}")
    if out is not None:
        note(f"wrote {', '.join(written)} in {out}")
