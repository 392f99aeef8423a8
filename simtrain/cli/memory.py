"""`simtrain memory`: what each GiB of device memory is worth on one layout."""

import os
from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import MEMORY, Allow, AsJson, MemoryCap, stated

HELP = r"""Trade memory for time on one layout: what to recompute, move, narrow or chunk at every cap.

Examples:

  simtrain memory plan.json
  simtrain memory plan.json --rank 2 --allow recompute,cpu --html memory.html
  simtrain memory plan.json --memory-cap 40GiB --out lean.json
  simtrain memory plan.json --policy memo

Every stage's tensors are treated so that it fits and loses least time; each
answer is replayed event by event. --out writes the plan of --memory-cap, for
simtrain simulate and trace. --policy does what a system of the field does
(simtrain show policies), its states and optimizer included.

Exit codes: 0 answered, 1 nothing keeps the cap, 2 wrong input."""


def memory(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.JSON", help="A file written by simtrain plan --out.")],
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
    allow: Allow = "recompute,cpu",
    policy: Annotated[
        str | None, stated("Treat tensors as this system does, instead of --allow.", "NAME", MEMORY)
    ] = None,
    memory_cap: MemoryCap = None,
    points: Annotated[str, typer.Option(metavar="N", help="Caps to plan for.")] = "12",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the plan within the cap here, as JSON.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Plot time over memory (one page).")] = None,
    as_json: AsJson = False,
) -> None:
    """Plan memory at several caps and show the trade-off."""
    from simtrain.cli.inputs import actions, memory_size, without_drives
    from simtrain.cli.output import check_writable, console, note, print_json, progress, write_json
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import Problem, WrongInput
    from simtrain.estimate import machine
    from simtrain.estimate.replayed import predicted
    from simtrain.search.memory import Allowed, Layout, followed
    from simtrain.search.memory_front import front, peak_of, worth
    from simtrain.spec import load
    from simtrain.views.document import simulate_document
    from simtrain.views.memory import memory_document, print_memory, write_front
    from simtrain.views.plotted import plotted

    problems = [*check_writable(out), *([] if html is None else plotted(html))]
    for name, path in (("--out", out), ("--html", html)):
        if path is not None and os.path.realpath(path) == os.path.realpath(plan):
            problems.append(Problem(name, str(path), "would overwrite what is read", "name another file"))
    free, cap = actions(allow, problems), memory_size(memory_cap, problems)
    system = None
    try:
        system = None if policy is None else load.policy(policy)
    except WrongInput as error:
        problems.extend(error.problems)
    if not points.isdecimal() or not 2 <= int(points) <= 200:
        problems.append(Problem("--points", points, "must be a whole number from 2 to 200", "write it like 12"))
    try:
        job, chosen = read_plan(plan, rank)
    except WrongInput as error:
        raise WrongInput([*error.problems, *problems]) from None
    problems.extend(without_drives(job, (system.tier,) if system else free))
    if problems:
        raise WrongInput(problems)
    if system is not None:
        job, chosen = followed(job, chosen, system)
    allowed: Allowed = free if system is None else system
    on = machine(job)
    capacity = job.cluster.device.memory.value if cap is None else cap
    layout = Layout(job, chosen, on)
    with progress("planning memory") as update:
        found = front(layout, allowed, int(points), update)
    within = None if found is None else (layout.planned(capacity, allowed) or found.at(capacity))
    gains = None if within is None else worth(job, chosen, on, capacity, allowed)
    moment = None if within is None else peak_of(layout, within)
    document = memory_document(layout, found, within, gains, moment, capacity, [system.name] if system else list(free))
    if as_json:
        print_json(document)
    else:
        print_memory(console(), job, document)
    if html is not None and found is not None:
        write_front(html, document)
        note(f"wrote {html}")
    if within is None:
        raise typer.Exit(1)
    if out is not None:
        write_json(out, simulate_document(job, *predicted(job, [within.plan], on)))
        note(f"wrote {out}; look at it with: simtrain simulate {out}")
