"""`simtrain validate`: run a plan on real hardware and compare it with its estimate, term by term."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import AsJson

HELP = r"""Train a plan's model for a few steps in plain torch and compare with the estimate.

Examples:

  simtrain validate plan.json --nproc 8
  simtrain validate plan.json --rank 2 --steps 50 --backend gloo
  simtrain validate big-plan.json --slice 0        one rank's share, alone
  simtrain validate plan.json --slurm partition=gpu --dry-run

The estimate is that of the worker's own software (stacks torch-plain and
torch-plain-gloo), on the cluster of the plan. The record goes to
validate/records/NAME.json; simtrain calibrate --from validate/records
refits the device to what was measured.

Exit codes: 0 run and compared, 1 the run failed or ran out of memory (the
record says why), 2 wrong input."""


def validate(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the file; 1 is the best.")] = "1",
    nproc: Annotated[str | None, typer.Option(metavar="N", help="Processes; the plan's ranks if not given.")] = None,
    backend: Annotated[str | None, typer.Option(metavar="gloo|nccl", help="By the device if not given.")] = None,
    steps: Annotated[str, typer.Option(metavar="N", help="Steps to time.")] = "20",
    slice_of: Annotated[
        str | None, typer.Option("--slice", metavar="STAGE", help="One rank of this stage, without peers.")
    ] = None,
    slurm: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="Submit to Slurm with these parameters.")
    ] = None,
    records: Annotated[Path, typer.Option(metavar="FOLDER", help="Where records go.")] = Path("validate/records"),
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Of the record; the plan's if not given.")] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write torch.profiler's trace of rank 0 here.")
    ] = None,
    recorded: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FILE",
            help="Compare with what the worker wrote elsewhere, or a torch.profiler trace; run nothing.",
        ),
    ] = None,
    limit: Annotated[str, typer.Option(metavar="SECONDS", help="End a run that takes longer.")] = "1800",
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Print what would be run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Predict, run, compare, record."""
    import shutil
    import tempfile

    from simtrain.cli.output import console, note, print_json, write_json
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import Problem, WrongInput
    from simtrain.validation import compare, launch, predict, runs, worker
    from simtrain.validation import slurm as cluster
    from simtrain.views.validation import predicted, print_record, record

    problems = [
        Problem(flag, text, "must be a whole number of at least " + lowest)
        for flag, text, lowest in (("--steps", steps, "1"), ("--nproc", nproc, "1"), ("--limit", limit, "1"))
        if text is not None and (not text.isdecimal() or int(text) < 1)
    ]
    if backend not in (None, "gloo", "nccl"):
        problems.append(Problem("--backend", backend, "is not known", "known: gloo, nccl"))
    try:
        job, chosen = read_plan(plan, rank)
    except WrongInput as wrong:
        raise WrongInput([*problems, *wrong.problems]) from None
    job = worker.worker_job(job)
    problems += worker.unsupported(job, chosen)
    if slice_of is not None and (not slice_of.isdecimal() or int(slice_of) >= chosen.pp):
        problems.append(Problem("--slice", slice_of, f"must be a stage, 0 to {chosen.pp - 1}"))
    elif slice_of is not None and nproc not in (None, "1"):
        problems.append(Problem("--nproc", nproc, "a slice is one rank alone", "leave it out"))
    elif slice_of is None and nproc is not None and nproc.isdecimal() and int(nproc) != job.devices:
        hint = "plan for as many devices, or check one rank's share with --slice 0"
        problems.append(Problem("--nproc", nproc, f"the plan is for {job.devices} ranks", hint))
    if problems:
        raise WrongInput(problems)
    stage = None if slice_of is None else int(slice_of)
    device = "cpu" if job.cluster.device.architecture == "cpu" else "cuda"
    ranks = 1 if stage is not None else job.devices
    wanted = runs.Wanted(
        plan=plan,
        rank=int(rank),
        ranks=ranks,
        device=device,
        backend=backend or ("gloo" if device == "cpu" else "nccl"),
        steps=int(steps),
        stage=stage,
        trace=trace,
        limit=float(limit),
    )
    prediction = predict.predict(job, chosen) if stage is None else predict.predict_slice(job, chosen, stage)
    asked = None
    if slurm is not None:
        asked = cluster.parameters(slurm, ranks, job.cluster.node.devices, -(-int(limit) // 60), device)
    if dry_run:
        out = records / "record.json"
        if asked is not None:
            shown = f"sbatch through submitit {asked}: python -m run {' '.join(runs.arguments(wanted, out))}"
        else:
            shown = launch.written(launch.torchrun("run", ranks, runs.arguments(wanted, out)), launch.environment())
        if as_json:
            print_json({"format_version": 1, "would_run": shown} | predicted(prediction))
        else:
            typer.echo(shown)
        return
    if recorded is not None:
        status, why, parts = runs.read(recorded)
    elif asked is None:
        launch.needs_torch()
        status, why, parts = runs.carried_out(wanted, _say)
    else:
        folder = Path(tempfile.mkdtemp(prefix="simtrain-slurm-", dir=Path.home()))
        status, why, parts = cluster.submit(wanted, asked, folder, _say)
        if status == "ok":
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _say(f"Slurm job: its logs are in {folder}")
    rows = [*compare.compared(prediction, parts), *compare.reference(job, parts)]
    document = record(job, chosen, prediction, rows, status, why, parts, stage)
    records.mkdir(parents=True, exist_ok=True)
    path = records / f"{name or plan.stem + ('' if stage is None else f'-slice{stage}')}.json"
    write_json(path, document)
    if as_json:
        print_json(document)
    else:
        print_record(console(), document)
    note(f"wrote {path}")
    if status != "ok":
        raise typer.Exit(1)


def _say(line: str) -> None:
    from simtrain.cli.output import note

    if line.startswith(("warm-up", "watched", "step ", "Slurm job")):
        note(line)
