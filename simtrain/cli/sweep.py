"""`simtrain sweep`: the best plan at every point."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import (
    AdapterRank,
    AsJson,
    Calibration,
    Cluster,
    Freeze,
    GlobalBatch,
    Gpus,
    Optimizer,
    Precision,
    Seq,
    Stack,
    Tokens,
)

HELP = r"""Find the best plan at every combination of some values.

Examples:

  simtrain sweep job.toml --vary gpus=64..4096 -o sweep.csv
  simtrain sweep llama-3-70b --tokens 15T --vary gpus=64..4096 \
      --vary cluster=dgx-a100,dgx-h100 --vary seq=4k,8k -o sweep.html
  simtrain sweep job.toml --vary gpus=64..4096 -o sweep.csv \
      --scheduler tcp://host:8786

A range doubles: 64..512 is 64, 128, 256, 512. What can be varied: model,
cluster, gpus, seq, global-batch, tokens, precision, optimizer, stack,
adapter-rank.

What is found is kept in FILE.journal at once. The same command goes on where
one was stopped or killed; points found by another version of simtrain are
asked again. The journal is deleted once FILE is written.

--scheduler runs the points on a Dask cluster: the address of its scheduler,
or its scheduler file (.json). Under Slurm a Python session that stays open
starts one and prints its address:

  from dask_jobqueue import SLURMCluster
  cluster = SLURMCluster(cores=4, memory="8GiB", walltime="01:00:00")
  cluster.scale(jobs=1)
  print(cluster.scheduler_address)

Exit codes: 0 a plan was found, 1 nothing fits anywhere, 2 wrong input."""


def sweep(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Model or a job file (.toml); left out where it is varied.")
    ] = None,
    cluster: Cluster = None,
    vary: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUES", help="What changes; may be given several times.")
    ] = None,
    gpus: Gpus = None,
    seq: Seq = None,
    global_batch: GlobalBatch = None,
    tokens: Tokens = None,
    precision: Precision = None,
    optimizer: Optimizer = None,
    stack: Stack = None,
    calibration: Calibration = None,
    adapter_rank: AdapterRank = None,
    freeze: Freeze = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write a .csv, or a page (.html).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Dask cluster; needs the extra cluster.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask at every point and show the answers."""
    from contextlib import closing
    from dataclasses import replace

    from simtrain.cli.inputs import calibrated, request, unreadable
    from simtrain.cli.output import check_writable, console, note, print_json, progress, write_pieces
    from simtrain.errors import Problem, WrongInput
    from simtrain.study.journal import Journal, forget
    from simtrain.study.points import axis, points
    from simtrain.study.sweep import missing_dask, swept
    from simtrain.views.page import missing_plotly
    from simtrain.views.point import best_row
    from simtrain.views.sweep import csv_pieces, print_sweep, sweep_document, sweep_page

    problems = [*unreadable(calibration), *check_writable(out, example="sweep.csv")]
    axes, found = [], []
    for text in vary or []:
        try:
            axes.append(axis(text))
        except WrongInput as error:
            problems.extend(error.problems)
    if cluster is None and model is not None and not model.endswith(".toml") and "model" in dict(axes):
        model, cluster = None, model
    if not vary:
        problems.append(Problem("--vary", None, "is missing", "say what changes, like --vary gpus=64..4096"))
    if out is not None and out.suffix not in (".csv", ".html"):
        problems.append(Problem("--out", str(out), "is neither .csv nor .html", f"write {out.stem or 'sweep'}.csv"))
    if out is not None and out.suffix == ".html":
        problems.extend(missing_plotly("--out", out))
    if scheduler is not None:
        problems.extend(missing_dask(scheduler))
    try:
        base = request(
            model,
            cluster,
            {"gpus": gpus, "seq": seq, "global_batch": global_batch, "tokens": tokens},
            {
                "precision": precision,
                "optimizer": optimizer,
                "stack": stack,
                "adapter_rank": adapter_rank,
                "freeze": freeze,
            },
        )
        found = points(base, axes)
        if not unreadable(calibration):
            found = [replace(point, job=calibrated(point.job, calibration)) for point in found]
    except WrongInput as error:
        problems.extend(problem for problem in error.problems if problem not in problems)
    if problems:
        raise WrongInput(problems)
    journal = None if out is None else out.with_name(f"{out.name}.journal")
    if journal is not None and journal.exists():
        with closing(Journal(journal)) as kept:
            again = f"; {kept.stale} found by another version of simtrain are asked again" if kept.stale else ""
            note(f"going on with {journal}: {len(kept.rows)} points are there{again}")
    with progress("sweeping") as update:
        rows = swept([point.job for point in found], best_row, journal, scheduler, update)
    document = sweep_document(found, rows)
    if out is not None and journal is not None:
        write_pieces(out, csv_pieces(document) if out.suffix == ".csv" else sweep_page(document))
        others = forget(journal, [point.job for point in found])
        if others:
            note(f"{journal} stays: it holds {others} points of another sweep")
    if as_json:
        print_json(document)
    elif out is None:
        print_sweep(console(), document)
    else:
        note(f"wrote {out}: {len(rows)} points")
    if not any(row["fits"] for row in rows):
        raise typer.Exit(1)
