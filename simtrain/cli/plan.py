"""`simtrain plan`: model and cluster in, ranked plans out."""

from pathlib import Path
from typing import Annotated

import typer

from simtrain.cli.options import (
    MEMORY,
    AdapterRank,
    Allow,
    AsJson,
    Calibration,
    Cluster,
    Freeze,
    GlobalBatch,
    Gpus,
    MemoryCap,
    Optimizer,
    Precision,
    Seq,
    Stack,
    Tokens,
    stated,
)

AIM = "The aim"

HELP = r"""Find the best layouts for training MODEL on CLUSTER.

Examples:

  simtrain plan llama-3-70b dgx-h100 --gpus 512 --seq 8192 \
      --global-batch 1024 --tokens 15T --out plan.json
  simtrain plan path/to/config.json my-cluster.toml --gpus 64
  simtrain plan job.toml --gpus 128
  simtrain plan job.toml --allow recompute,cpu --memory-cap 60GiB
  simtrain plan gpt-3-175b dgx-a100 --gpus 4096 --json \
      --global-batch 1536..4096
  simtrain plan mt-nlg-530b dgx-a100 --gpus 1920..2240 --seq 2048 \
      --global-batch 1920 --tokens 270B --objective cost --deadline "32 d"

MODEL is a name (simtrain show models), a Hugging Face config.json or a .toml.
CLUSTER is a name (simtrain show clusters) or a .toml.
job.toml states the same in one file: model, cluster, gpus, seq, global_batch,
tokens, precision, optimizer, stack, adapter_rank, freeze; options here override
it.

Exit codes: 0 a plan was found, 1 nothing fits, 2 wrong input."""


def plan(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model, or a job file (.toml) that names model and cluster.")
    ],
    cluster: Cluster = None,
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
    allow: Allow = None,
    no_offload: Annotated[
        bool,
        typer.Option(
            "--no-offload", metavar="", help="Keep states and activations on the devices.", rich_help_panel=MEMORY
        ),
    ] = False,
    memory_cap: MemoryCap = None,
    top: Annotated[str, typer.Option(metavar="N", help="Plans to rank.")] = "5",
    objective: Annotated[str | None, stated("Best by time, cost, energy or carbon: clocks too.", "NAME", AIM)] = None,
    deadline: Annotated[str | None, stated('The run may take so long, e.g. "30 d".', "TIME", AIM)] = None,
    budget: Annotated[str | None, stated('The run may cost so much, e.g. "2 MUSD".', "MONEY", AIM)] = None,
    power_cap: Annotated[str | None, stated('The site may draw so much, e.g. "5 MW".', "POWER", AIM)] = None,
    grid: Annotated[str | None, stated('A country as in FRA, or "57 g/kWh".', "NAME", AIM)] = None,
    tariff: Annotated[str | None, stated('Paid for energy besides devices, "0.1 USD/kWh".', "PRICE", AIM)] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the answer here as JSON, for simtrain simulate.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the search and show it."""
    from simtrain.cli.aim import aimed
    from simtrain.cli.inputs import (
        actions,
        calibrated,
        capped,
        memory_size,
        request,
        unreadable,
        without_drives,
    )
    from simtrain.cli.output import check_writable, console, note, print_json, progress, write_json
    from simtrain.cli.sizes import largest, sizes
    from simtrain.errors import Problem, WrongInput
    from simtrain.search.advice import advice
    from simtrain.search.search import search
    from simtrain.study.fleet import fleet
    from simtrain.study.objective import shown, weighed
    from simtrain.views.document import plan_document
    from simtrain.views.objective import MOST, objective_document, print_objective, sizes_document, taken, unmet
    from simtrain.views.tables import print_nothing_fits, print_search

    problems: list[Problem] = unreadable(calibration)
    allowed, cap = actions(allow, problems), memory_size(memory_cap, problems)
    job, jobs = None, []
    try:
        asked = request(
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
        job = largest(asked).job()
        job = job if problems else capped(calibrated(job, calibration), cap)
        jobs = sizes(asked, job)
        problems.extend(without_drives(job, allowed))
    except WrongInput as error:
        problems.extend(error.problems)
    if not top.isdecimal() or int(top) < 1:
        problems.append(Problem("--top", top, "must be a whole number of at least 1", "write it like 5"))
    if out is not None and str(out) in (model, cluster):
        problems.append(Problem("--out", str(out), "would overwrite what is read", "name another file"))
    problems.extend(check_writable(out))
    aim = aimed(problems, job, objective, deadline, budget, power_cap, grid, tariff)
    if len(jobs) > 1 and aim is None:
        hint = "add --objective cost, or another"
        problems.append(Problem("--gpus", asked.gpus, "names several sizes, but no aim chooses among them", hint))
    if problems or job is None:
        raise WrongInput(problems)
    if no_offload:
        nowhere = {"offload": (), "offload_asked": ()}
        jobs = [each.model_copy(update={"stack": each.stack.model_copy(update=nowhere)}) for each in jobs]
        job = jobs[-1]
        allowed = tuple(action for action in allowed if action not in ("cpu", "nvme"))
    sized = None
    if aim is not None and len(jobs) > 1:
        with progress("comparing sizes") as update:
            sized = fleet(jobs, aim, update)
        job = sized.best(jobs)
    with progress("searching") as update:
        result = search(job, int(top), update, allowed)
        found = len(result.best.plans) > 0
        hints = [] if found else advice(result)
    document = plan_document(result)
    chosen = None
    if aim is not None and found:
        with progress("weighing") as update:
            chosen = weighed(result, aim, update) if sized is None else sized.weighed
        document = plan_document(shown(result, chosen, MOST))
        document["objective"] = objective_document(chosen)
        if sized is not None:
            document["sizes"] = sizes_document(sized)
    if not found:
        document["hints"] = hints
    if found and out is not None:
        write_json(out, document)
    if as_json:
        print_json(document)
    elif found:
        print_search(console(), result, document["plans"][: len(result.best.plans)])
        if chosen is not None and chosen.ranked:
            print_objective(console(), document)
    else:
        print_nothing_fits(console(), result, hints)
    if found and out is not None:
        note(f"wrote {out}; look at one of its plans with: simtrain simulate {out} --rank 1")
    elif not found:
        if out is not None:
            note(f"{out} was not written")
        raise typer.Exit(1)
    if aim is not None and chosen is not None and not chosen.ranked:
        note(f"no layout keeps to these limits: {unmet(aim, document['objective'])}")
        raise typer.Exit(1)
    if aim is not None and chosen is not None and out is not None and aim.objective != "time":
        note(f"best by {aim.objective}: {taken(out, document, chosen.ranked[0])}")
