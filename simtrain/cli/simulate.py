"""`simtrain simulate`: one plan, full breakdown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from simtrain.cli.options import (
    AdapterRank,
    AsJson,
    Calibration,
    Cluster,
    Freeze,
    GlobalBatch,
    Gpus,
    Optimizer,
    OwnDurations,
    OwnOrder,
    Precision,
    Seq,
    Slow,
    Stack,
    Tokens,
    stated,
)

if TYPE_CHECKING:
    from simtrain.errors import Problem

HELP = r"""Predict one layout in detail: time, memory, cost and what they are made of.

Examples:

  simtrain simulate plan.json
  simtrain simulate plan.json --rank 3 --json
  simtrain simulate plan.json --timeline
  simtrain simulate llama-3-70b dgx-h100 --gpus 64 --global-batch 128 \
      --tp 8 --sp --pp 4 --zero 1
  simtrain simulate job.toml --tp 8 --sp --pp 4
  simtrain simulate job.toml --pp 2 --order mine.csv --timeline
  simtrain simulate plan.json --slow stage=3:1.2 --slow replica=1:1.1

An order is a row a stage, in the order it runs: each cell a chunk's position
on the way through the model, F (forward), B (backward) or I and W (gradients
of inputs and of weights apart), and a microbatch. Two stages, two
microbatches: 0F0,0F1,0B0,0B1 and 1F0,1B0,1F1,1B1. JSON: a list of such lists.

What is slow: a stage, a data-parallel replica, both (replica=1,stage=3), or a
rank of the job; a factor is how many times as long its passes take, and those
of one place multiply. Durations are a table of passes: stage,phase,seconds,
and if wanted chunk and microbatch; an empty cell stands for all:

  stage,phase,microbatch,seconds
  3,backward,,0.031
  3,backward,0,0.045

--from: what another trainer is told (megatron-lm: ARGS or a file; torchtitan:
its TOML; deepspeed: its JSON), predicted on [MODEL] CLUSTER and compared with
the best plan: where it loses, and which settings to change. MODEL and options
given beside it go before what it says.

  simtrain simulate --from megatron-lm "$ARGS" dgx-h100 --gpus 64
  simtrain simulate llama-3-8b dgx-h100 --from deepspeed ds_config.json \
      --gpus 16 --seq 4096 --recompute full

The data-parallel degree is what tp, cp, ulysses and pp leave of the devices.

Exit codes: 0 it fits, 1 it does not, 2 wrong input."""
LAYOUT: Final = "The layout"


def simulate(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="PLAN.JSON|MODEL", help="A file written by simtrain plan --out; or a model or a job file (.toml)."
        ),
    ],
    cluster: Cluster = None,
    rank: Annotated[str, typer.Option(metavar="N", help="Which plan of the plan file.")] = "1",
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
    tp: Annotated[str, stated("Tensor degree.", panel=LAYOUT)] = "1",
    sp: Annotated[bool, typer.Option("--sp", metavar="", help="Sequence parallelism.", rich_help_panel=LAYOUT)] = False,
    pp: Annotated[str, stated("Pipeline degree: stages.", panel=LAYOUT)] = "1",
    vpp: Annotated[str, stated("Chunks a stage; above 1 the schedule is one with chunks.", panel=LAYOUT)] = "1",
    cp: Annotated[str, stated("Context degree, as a ring.", panel=LAYOUT)] = "1",
    ulysses: Annotated[str, stated("Context degree, over heads.", panel=LAYOUT)] = "1",
    ep: Annotated[str, stated("Expert degree.", panel=LAYOUT)] = "1",
    etp: Annotated[str, stated("Tensor degree inside an expert.", panel=LAYOUT)] = "1",
    zero: Annotated[str, stated("States sharded: 1 optimizer, 2 gradients too, 3 all.", "0..3", LAYOUT)] = "0",
    shard_group: Annotated[str | None, stated("Ranks a state is sharded over; all if not given.", panel=LAYOUT)] = None,
    schedule: Annotated[str | None, stated("Pipeline schedule, of those the stack has.", "NAME", LAYOUT)] = None,
    micro_batch: Annotated[str, stated("Sequences a microbatch.", panel=LAYOUT)] = "1",
    recompute: Annotated[str, stated("none, selective or full.", "NAME", LAYOUT)] = "none",
    full_layers: Annotated[str, stated("Layers a stage recomputed in full besides.", panel=LAYOUT)] = "0",
    offload: Annotated[
        str, stated("States in host memory: none, optimizer (and gradients), all.", "NAME", LAYOUT)
    ] = "none",
    order: OwnOrder = None,
    slow: Slow = None,
    durations: OwnDurations = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", metavar="", help="Replay the step and draw what every stage does when.")
    ] = False,
    from_: Annotated[
        tuple[str, str] | None,
        typer.Option("--from", metavar="NAME ARGS|FILE", help="What another trainer is told; MODEL may be left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the plan and show it."""
    if from_ is not None:
        from simtrain.cli.brought import simulate_brought

        simulate_brought(context)
        return
    from simtrain.cli.course import read_course
    from simtrain.cli.inputs import calibrated, request, unreadable
    from simtrain.cli.output import console, print_json
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import Problem, WrongInput
    from simtrain.estimate import machine
    from simtrain.estimate.course import PLANNED
    from simtrain.estimate.replayed import predicted, replayed
    from simtrain.search.layout import Layout
    from simtrain.views.document import course_document, simulate_document
    from simtrain.views.tables import print_one

    from_file = Path(model).suffix == ".json" and Path(model).name != "config.json" and cluster is None
    misplaced = [*_misplaced(context, from_file), *unreadable(calibration)]
    course = read_course(order, slow, durations, misplaced)
    if timeline and as_json:
        hint = "leave one of them out; simtrain trace writes the timeline as JSON"
        misplaced.append(Problem("--timeline", None, "is drawn for people, not printed as JSON", hint))
    if from_file:
        try:
            job, plan = read_plan(Path(model), rank)
        except WrongInput as error:
            raise WrongInput([*error.problems, *misplaced]) from None
    else:
        layout = Layout(
            tp=tp,
            sp=sp,
            pp=pp,
            vpp=vpp,
            cp=cp,
            ulysses=ulysses,
            ep=ep,
            etp=etp,
            zero=zero,
            shard_group=shard_group,
            schedule=schedule,
            micro_batch=micro_batch,
            recompute=recompute,
            full_layers=full_layers,
            offload=offload,
        )
        try:
            job = request(
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
            ).job()
        except WrongInput as error:
            raise WrongInput([*error.problems, *layout.problems(), *misplaced]) from None
        try:
            plan = layout.plan(job)
        except WrongInput as error:
            raise WrongInput([*error.problems, *misplaced]) from None
    if misplaced:
        raise WrongInput(misplaced)
    job = calibrated(job, calibration)
    on = machine(job)
    document = simulate_document(job, *predicted(job, [plan], on, course))
    if course != PLANNED:
        document["course"] = course_document(course, order, predicted(job, [plan], on)[0])
    if as_json:
        print_json(document)
    else:
        print_one(console(), job, document["plans"][0], document.get("course"))
    if timeline:
        from simtrain.views.gantt import print_timeline

        found = replayed(job, plan, on, course)
        print_timeline(console(), found.step, found.footprint, found.categories)
    if not document["plans"][0]["fits"]:
        raise typer.Exit(1)


def _misplaced(context: typer.Context, from_file: bool) -> "list[Problem]":
    """Options that say nothing about this kind of input."""
    from simtrain.errors import Problem

    on_command_line = [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
    ]
    if not from_file:
        hint = "leave it out, or name a plan file"
        return (
            [Problem("--rank", context.params["rank"], "is for plan files", hint)] if "rank" in on_command_line else []
        )
    return [
        Problem(
            _flag(name), None, "cannot change the plan of a plan file", "leave it out, or name a model and a cluster"
        )
        for name in on_command_line
        if name not in ("model", "rank", "calibration", "order", "slow", "durations", "timeline", "as_json")
    ]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
