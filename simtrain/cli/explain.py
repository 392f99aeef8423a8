"""`simtrain explain`: why a plan is as fast as it is, and why not another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simtrain.cli.options import Allow, AsJson

if TYPE_CHECKING:
    from simtrain.errors import Problem

HELP = r"""Explain a plan: what binds it, what more of each resource would be worth, what its prediction rests on.

Examples:

  simtrain explain plan.json
  simtrain explain plan.json --why-not tp=8,pp=4
  simtrain explain plan.json --rank 2 --why-not zero=3,recompute=none --json

--why-not names options of a layout as simtrain simulate has them; options that
are not named are free, so the best plan that has the named ones is compared.

A memory plan in the file is priced as it stands; other plans are looked for
without one unless --allow says what theirs may do (slower).

Exit codes: 0 explained, 2 wrong input."""


def explain(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
    why_not: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE,...", help="Compare with the best plan that has these.")
    ] = None,
    allow: Allow = None,
    as_json: AsJson = False,
) -> None:
    """Explain and show it."""
    from simtrain.cli.inputs import actions, without_drives
    from simtrain.cli.output import console, print_json, progress
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import WrongInput
    from simtrain.study.alternative import columns
    from simtrain.study.explain import explain as explained
    from simtrain.views.explain import document, print_explanation

    asked, problems = _asked(why_not)
    allowed = actions(allow, problems)
    try:
        columns(asked or {})
    except WrongInput as wrong:
        problems += wrong.problems
    try:
        job, chosen = read_plan(plan, rank)
        problems += without_drives(job, allowed)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *problems]) from None
    if problems:
        raise WrongInput(problems)
    with progress("explaining") as update:
        found = explained(job, chosen, asked, update, allowed)
    if as_json:
        print_json(document(found))
    else:
        print_explanation(console(), found)


def _asked(text: str | None) -> "tuple[dict[str, str] | None, list[Problem]]":
    """`tp=8,pp=4` as a dictionary."""
    from simtrain.errors import Problem

    if text is None:
        return None, []
    pairs = [part.strip().partition("=") for part in text.split(",")]
    problems = [
        Problem("--why-not", "".join(pair), "is no NAME=VALUE", "write it like tp=8,pp=4")
        for pair in pairs
        if not (pair[0] and pair[1] and pair[2])
    ]
    named = [name.strip().replace("-", "_") for name, _, _ in pairs]
    problems += [
        Problem("--why-not", name, "is named twice", "ask for one layout")
        for name in dict.fromkeys(named)
        if named.count(name) > 1
    ]
    return {name.strip().replace("-", "_"): value.strip() for name, equals, value in pairs if equals}, problems
