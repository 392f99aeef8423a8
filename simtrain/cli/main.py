"""The `simtrain` command: one verb a file; every verb loads what it needs only when it runs."""

import sys

import typer

from simtrain.cli import plan, show, simulate
from simtrain.cli.output import report
from simtrain.errors import WrongInput

app = typer.Typer(
    name="simtrain",
    help="Will it fit, how fast, what will it cost, which layout should I run, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("plan", help=plan.HELP)(plan.plan)
app.command("simulate", help=simulate.HELP)(simulate.simulate)
app.command("show", help=show.HELP)(show.show)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"simtrain {installed('simtrain')}")
        raise typer.Exit


def main() -> None:
    """Run the command line: exit code 0 answered, 1 answered "no", 2 wrong input."""
    try:
        app()
    except WrongInput as error:
        report(error)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
