"""`simtrain calibrate`: fit the numbers of devices and stacks to measured runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from simtrain.errors import Problem

HELP = r"""Fit the few physical numbers of devices and stacks to measured runs, and report errors on sweeps left out.

Examples:

  simtrain calibrate                         the shipped runs
  simtrain calibrate my-runs/ --json         a folder with runs.csv and models.json
  simtrain calibrate --runs mine.csv -o mine.toml
  simtrain plan llama-3-8b dgx-h100 --calibration mine.toml
  simtrain calibrate --from validate/records

FOLDER holds runs.csv and models.json as simtrain score reads them; the shipped
published runs if not given. Writes devices.toml, stacks.toml and errors.toml
of profiles/calibration, which every later answer uses.

--runs takes a few runs of your own (three are enough) and fits one scale for
each stack on each device; the shipped numbers stay as they are. mine.csv:

  model,cluster,gpus,seq,global_batch,tp,sp,zero,micro_batch,recompute,step_s
  llama-3-8b,dgx-h100,16,8192,128,1,,3,1,selective,7.1
  llama-3-8b,dgx-h100,16,8192,128,2,true,1,1,,7.4
  llama-3-8b,dgx-h100,32,8192,128,1,,3,1,selective,3.7

model and cluster are names or files as for simtrain simulate, the rest its
options; further columns: pp, vpp, cp, ulysses, ep, etp, shard_group, schedule,
full_layers, precision, optimizer, stack, and those of runs.csv.

--from reads what simtrain validate recorded, and refits the measured device
the plans were made for (rates.toml in its profile), if that predicts the
records' steps better.

Exit codes: 0 fitted, 1 records do not make the rates better, 2 wrong input."""


def calibrate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Folder with runs.csv and models.json.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(metavar="FILE", help="A CSV with a few runs of your own.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the scales of --runs here, for --calibration."),
    ] = None,
    records: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Records of simtrain validate.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, but write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Fit, report, write."""
    from simtrain.errors import WrongInput

    problems = _misplaced(folder, runs, out)
    if records is not None:
        _validated(records, dry_run, as_json, [*problems, *_beside(folder, runs)])
        return
    if runs is not None and folder is None:
        _own(runs, None if dry_run else out, as_json, problems)
        return
    if problems:
        raise WrongInput(problems)
    _published(folder, dry_run, as_json)


def _misplaced(folder: Path | None, runs: Path | None, out: Path | None) -> "list[Problem]":
    """What cannot be said together."""
    from simtrain.cli.output import check_writable
    from simtrain.errors import Problem

    problems = check_writable(out)
    if runs is None and out is not None:
        problems.append(Problem("--out", str(out), "is for the scales of --runs", "add --runs mine.csv"))
    if runs is not None and folder is not None:
        problems.append(Problem("FOLDER", str(folder), "cannot stand beside --runs", "leave one of them out"))
    if runs is not None and out is not None and out == runs:
        problems.append(Problem("--out", str(out), "would overwrite what is read", "name another file"))
    return problems


def _beside(folder: Path | None, runs: Path | None) -> "list[Problem]":
    """What cannot stand beside --from."""
    from simtrain.errors import Problem

    given = (("FOLDER", folder), ("--runs", runs))
    rule = "cannot stand beside --from"
    return [Problem(name, str(path), rule, "leave one of them out") for name, path in given if path is not None]


def _validated(folder: Path, dry_run: bool, as_json: bool, problems: "list[Problem]") -> None:
    """New rates of the devices that plans were validated on."""
    from simtrain.cli.output import console, note, print_json
    from simtrain.errors import WrongInput
    from simtrain.validation.refit import read, refit
    from simtrain.views.validation import print_refits, refit_document

    try:
        records = read(folder)
    except WrongInput as wrong:
        raise WrongInput([*problems, *wrong.problems]) from None
    if problems:
        raise WrongInput(problems)
    found = refit(records, not dry_run)
    if as_json:
        print_json(refit_document(found))
    else:
        print_refits(console(), found)
    for one in found if not dry_run else ():
        if one.better:
            note(f"wrote {one.profile / 'rates.toml'}; every later answer on that profile uses it")
    if not all(one.better for one in found):
        raise typer.Exit(1)


def _own(path: Path, out: Path | None, as_json: bool, problems: "list[Problem]") -> None:
    """One scale for each stack on each device of a user's runs."""
    from simtrain.cli.output import console, note, print_json
    from simtrain.errors import WrongInput
    from simtrain.validation.own_runs import fits, read
    from simtrain.validation.own_runs import write as write_scales
    from simtrain.views.calibration import own_document, print_own

    try:
        found = read(path)
    except WrongInput as wrong:
        raise WrongInput([*problems, *wrong.problems]) from None
    if problems:
        raise WrongInput(problems)
    fitted = fits(found, path.name)
    if out is not None:
        write_scales(out, fitted)
    if as_json:
        print_json(own_document(fitted))
    else:
        print_own(console(), fitted)
    if out is not None:
        note(f"wrote {out}; use it with: simtrain plan MODEL CLUSTER --calibration {out}")


def _published(folder: Path | None, dry_run: bool, as_json: bool) -> None:
    """The numbers of profiles/calibration."""
    from simtrain.cli.output import console, print_json, progress
    from simtrain.errors import Problem, WrongInput
    from simtrain.spec.calibration import FOLDER
    from simtrain.spec.library import path_of
    from simtrain.validation.calibrate import Fit, measured_runs
    from simtrain.validation.calibration_files import documents, write
    from simtrain.validation.corpus import corpus
    from simtrain.validation.memory_fit import allocators
    from simtrain.views.calibration import calibration_document, print_calibration

    found = corpus(folder)
    runs = measured_runs(found)
    if not runs:
        raise WrongInput([Problem("FOLDER", str(folder), "holds no timed run that can be expressed")])
    with progress("fitting") as update:
        fitted = Fit(runs).solve(update)
    memory = allocators(found, fitted.numbers)
    content = documents(runs, fitted, memory)
    if not dry_run:
        write(path_of(FOLDER), content)
    if as_json:
        print_json(calibration_document(runs, fitted, memory, content))
    else:
        print_calibration(console(), runs, fitted, memory)
