"""The `simtrain` command: one verb a file; every verb loads what it needs only when it runs."""

import codecs
import io
import os
import signal
import sys
from typing import cast

import typer

from simtrain.cli import (
    calibrate,
    energy,
    explain,
    export,
    measure,
    memory,
    plan,
    report,
    score,
    show,
    simulate,
    sweep,
    trace,
    validate,
)
from simtrain.cli.output import report as complain
from simtrain.errors import Problem, WrongInput

HELP = r"""Will it fit, how fast, what will it cost, which layout should I run, and how sure are we?

Examples:

  simtrain plan llama-3-70b dgx-h100 --gpus 64   the best layouts, and why
  simtrain plan job.toml --out plan.json         a job from a file
  simtrain simulate plan.json                    one layout in detail
  simtrain memory plan.json                      time for memory
  simtrain energy plan.json                      clocks that save energy
  simtrain explain plan.json --why-not tp=8      why this one, and not that
  simtrain export plan.json --to megatron-lm     what to run
  simtrain trace plan.json                       its step, for ui.perfetto.dev
  simtrain report plan.json                      the answer as a page to read
  simtrain sweep job.toml --vary gpus=64..4096   the best plan at every point
  simtrain show models                           what is known

Exit codes: 0 answered, 1 answered no (nothing fits), 2 wrong input."""

PLAIN = "simtrain-plain"
"""What a terminal cannot write: bars become #, the rest a question mark."""
codecs.register_error(PLAIN, lambda error: _plain(cast(UnicodeEncodeError, error)))

app = typer.Typer(
    name="simtrain",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("plan", help=plan.HELP)(plan.plan)
app.command("simulate", help=simulate.HELP)(simulate.simulate)
app.command("memory", help=memory.HELP)(memory.memory)
app.command("energy", help=energy.HELP)(energy.energy)
app.command("explain", help=explain.HELP)(explain.explain)
app.command("export", help=export.HELP)(export.export)
app.command("trace", help=trace.HELP)(trace.trace)
app.command("sweep", help=sweep.HELP)(sweep.sweep)
app.command("report", help=report.HELP)(report.report)
app.command("show", help=show.HELP)(show.show)
app.command("score", help=score.HELP)(score.score)
app.command("measure", help=measure.HELP)(measure.measure)
app.command("validate", help=validate.HELP)(validate.validate)
app.command("calibrate", help=calibrate.HELP)(calibrate.calibrate)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", metavar="", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            typer.echo(f"simtrain {installed('simtrain')}")
        except PackageNotFoundError:
            typer.echo("simtrain, run from its sources without being installed")
        raise typer.Exit


def _plain(error: UnicodeEncodeError) -> tuple[str, int]:
    return "".join("#" if letter == "█" else "?" for letter in error.object[error.start : error.end]), error.end


def main() -> None:
    """Run the command line: exit code 0 answered, 1 answered "no", 2 wrong input."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=PLAIN)
    try:
        app(prog_name="simtrain")
        sys.stdout.flush()
    except WrongInput as error:
        complain(error)
        sys.exit(2)
    except OSError as error:
        complain(WrongInput([Problem("standard output", None, f"cannot be written: {error.strerror}")]))
        os._exit(2)
