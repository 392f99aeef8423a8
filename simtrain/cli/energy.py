"""`simtrain energy`: a plan's time-energy frontier, and the clocks to run it at."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import AsJson, stated

SITE = "The site"
HELP = r"""Find the clocks that take least energy, and what energy costs in money and carbon.

Examples:

  simtrain energy plan.json
  simtrain energy plan.json --deadline "7.5 s" --csv clocks.csv --html frontier.html
  simtrain energy plan.json --clocks stage --out plan-with-clocks.json
  simtrain energy plan.json --straggler 1.2 --clocks stretch
  simtrain energy plan.json --grid FRA --tariff "0.08 USD/kWh"

Without --deadline a step may not take longer than at the largest clocks.

Exit codes: 0 answered, 2 wrong input."""


def energy(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
    deadline: Annotated[str | None, typer.Option(metavar="TIME", help='A step may take so long, e.g. "7.5 s".')] = None,
    straggler: Annotated[
        str | None, typer.Option(metavar="FACTOR", help="A replica takes 1.2 times the step; this one waits for it.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Measured power profile, or a .csv; the model's own or a law if not given."),
    ] = None,
    power_cap: Annotated[str | None, typer.Option(metavar="POWER", help='Of a device, e.g. "500 W".')] = None,
    node_power_cap: Annotated[
        str | None, typer.Option(metavar="POWER", help='Of a node, devices in equal shares, e.g. "6 kW".')
    ] = None,
    clock: Annotated[
        str | None, typer.Option(metavar="CLOCK", help='All passes at one clock, e.g. "1395 MHz".')
    ] = None,
    clocks: Annotated[str, typer.Option(metavar="GRAIN", help="A clock each pass, part, stretch or stage.")] = "pass",
    switch_time: Annotated[str, typer.Option(metavar="TIME", help="Until a new clock is there.")] = "10 ms",
    pue: Annotated[str | None, stated("Energy of the site over that of machines.", "FACTOR", SITE)] = None,
    grid: Annotated[str | None, stated('A country as in FRA, or "57 g/kWh".', "NAME", SITE)] = None,
    tariff: Annotated[str | None, stated('Paid for energy besides devices, "0.1 USD/kWh".', "PRICE", SITE)] = None,
    price: Annotated[str | None, stated('Of a device, "2 USD/h".', "PRICE", SITE)] = None,
    hourly: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Grams of CO2e a kWh, an hour a line: when to start.", rich_help_panel=SITE),
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the clocks here.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Plot the frontier here.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write plan and clocks here as JSON.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the frontier and show it."""
    from simtrain.cli.inputs import tried
    from simtrain.cli.output import check_writable, console, note, print_json, write_json, write_pieces
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import Problem, WrongInput, nearest
    from simtrain.price.power_profile import power_profile
    from simtrain.study.bill import factor, intensity, quantity, rates
    from simtrain.study.energy import device_cap, energy_plan
    from simtrain.study.shift import read_series
    from simtrain.views.energy import (
        GRAINS,
        clock_lines,
        energy_document,
        one_clock,
        print_energy,
        shifted,
        write_frontier,
    )
    from simtrain.views.plotted import plotted

    problems = [] if html is None else plotted(html)
    for flag, path, example in (("--csv", csv, "clocks.csv"), ("--out", out, "plan.json")):
        problems.extend(check_writable(path, example=example, flag=flag))
    problems.extend(
        Problem(flag, str(path), "would overwrite what is read", "name another file")
        for flag, path in (("--out", out), ("--csv", csv), ("--html", html))
        if path is not None and path.resolve() == plan.resolve()
    )
    if clocks not in GRAINS:
        problems.append(Problem("--clocks", clocks, "is not one of them", nearest(clocks, GRAINS)))
    until = tried(problems, quantity, deadline, "s", "--deadline", "7.5 s")
    cap = tried(problems, quantity, power_cap, "W", "--power-cap")
    node_cap = tried(problems, quantity, node_power_cap, "W", "--node-power-cap", "6 kW")
    fixed = tried(problems, quantity, clock, "Hz", "--clock", "1395 MHz")
    late = tried(problems, quantity, switch_time, "s", "--switch-time", "10 ms")
    stated_rates = (
        tried(problems, factor, pue, "--pue"),
        tried(problems, intensity, grid),
        tried(problems, quantity, tariff, "USD/J", "--tariff"),
        tried(problems, quantity, price, "USD/s", "--price"),
    )
    slower = tried(problems, factor, straggler, "--straggler")
    if straggler is not None and deadline is not None:
        problems.append(Problem("--straggler", straggler, "sets the deadline itself", "leave out --deadline"))
    measured = tried(problems, power_profile, profile)
    series = tried(problems, read_series, hourly)
    try:
        job, chosen = read_plan(plan, rank)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *problems]) from None
    if hourly is not None and job.tokens is None:
        problems.append(Problem("--hourly", str(hourly), "needs a run", "plan it with --tokens"))
    if problems or late is None:
        raise WrongInput(problems)
    found = energy_plan(job, chosen, measured, until, device_cap(job, cap, node_cap), late, slower)
    document = energy_document(found, rates(job, *stated_rates), clocks)
    if fixed is not None:
        document["one_clock"] = one_clock(found, fixed)
    if series is not None:
        document["start"] = shifted(series, document)
    if csv is not None:
        write_pieces(csv, clock_lines(document))
    if html is not None:
        write_frontier(html, found, document)
    if out is not None:
        write_json(out, document)
    if as_json:
        print_json(document)
    else:
        print_energy(console(), found, document)
    for path in (csv, html, out):
        if path is not None:
            note(f"wrote {path}")
