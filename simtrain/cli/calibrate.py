"""`simtrain calibrate`: fit the numbers of devices and stacks to measured runs."""

from pathlib import Path
from typing import Annotated

import typer

HELP = """Fit the few physical numbers of devices and stacks to measured runs, and report errors on sweeps left out.

Examples:

    simtrain calibrate

    simtrain calibrate my-runs/ --json

FOLDER holds runs.csv and models.json as `simtrain score` reads them; the shipped published runs if not given.
Writes devices.toml, stacks.toml and errors.toml of profiles/calibration, which every later answer uses.
Exit codes: 0 written, 2 wrong input."""


def calibrate(
    folder: Annotated[Path | None, typer.Argument(help="Folder with runs.csv and models.json.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, but write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Fit, report, write."""
    from simtrain.cli.output import console, print_json, progress
    from simtrain.spec.calibration import FOLDER
    from simtrain.spec.library import path_of
    from simtrain.validation.calibrate import Fit, measured_runs
    from simtrain.validation.calibration_files import documents, write
    from simtrain.validation.corpus import corpus
    from simtrain.validation.memory_fit import allocators
    from simtrain.views.calibration import calibration_document, print_calibration

    found = corpus(folder)
    runs = measured_runs(found)
    with progress("fitting") as update:
        fitted = Fit(runs).solve(update)
    memory = allocators(found)
    content = documents(runs, fitted, memory)
    if not dry_run:
        write(path_of(FOLDER), content)
    if as_json:
        print_json(calibration_document(runs, fitted, memory, content))
    else:
        print_calibration(console(), runs, fitted, memory)
