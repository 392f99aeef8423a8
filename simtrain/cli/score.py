"""`simtrain score`: predictions of published runs against what was measured."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import AsJson

HELP = r"""Predict published runs from their configuration alone and compare with what was measured.

Examples:

  simtrain score                                       the shipped runs, a line a source
  simtrain score --source vtrain-2024 --worst 20
  simtrain score my-runs --json                        my-runs/runs.csv and my-runs/models.json
  simtrain score --source korthikanti-2022 --parts      forward, backward and memory where printed
  simtrain score --html scatter.html

Exit codes: 0 scored, 2 wrong input."""


def score(
    folder: Annotated[
        str | None,
        typer.Argument(metavar="FOLDER", help="Folder with runs.csv and models.json; the shipped one if none."),
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Only the rows of this source.")] = None,
    worst: Annotated[
        str | None, typer.Option(metavar="N", help="Also the N rows with the largest error, and why.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", metavar="", help="Also what sources print of single rows: passes, memory.")
    ] = False,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write predicted against measured as a plot.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load, predict, summarise, show."""
    from simtrain.cli.output import console, print_json
    from simtrain.errors import Problem, WrongInput
    from simtrain.validation.corpus import corpus
    from simtrain.validation.culprit import suspects
    from simtrain.validation.parts import parts as compared
    from simtrain.validation.score import score as predict
    from simtrain.validation.setup import peers
    from simtrain.validation.summary import summary
    from simtrain.views.parts import parts_document, print_parts
    from simtrain.views.plotted import plotted
    from simtrain.views.scatter import write_scatter
    from simtrain.views.score import print_score, print_worst, score_document, worst_document
    from simtrain.views.score import worst as worst_rows

    problems: list[Problem] = []
    if worst is not None and (not worst.isdecimal() or int(worst) < 1):
        problems.append(Problem("--worst", worst, "must be a whole number of at least 1"))
    if html is not None:
        problems += plotted(Path(html))
    try:
        found = corpus(None if folder is None else Path(folder)).of_source(source)
    except WrongInput as error:
        raise WrongInput([*problems, *error.problems]) from None
    if problems:
        raise WrongInput(problems)
    predictions = predict(found)
    figures = summary(predictions)
    if html is not None:
        write_scatter(Path(html), predictions)
    rows = [] if worst is None else worst_rows(predictions, int(worst))
    reasons = suspects(rows, predictions)
    printed = compared(found, None if folder is None else Path(folder)) if parts else []
    if as_json:
        document = score_document(predictions, figures, peers())
        if worst is not None:
            document["worst"] = worst_document(rows, reasons)
        if parts:
            document["parts"] = parts_document(printed)
        print_json(document)
        return
    out = console()
    print_score(out, figures, peers())
    if worst is not None:
        print_worst(out, rows, reasons)
    if parts:
        print_parts(out, printed)
