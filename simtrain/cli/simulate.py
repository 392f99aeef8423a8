"""`simtrain simulate`: one plan, full breakdown."""

from pathlib import Path
from typing import Annotated

import typer

HELP = """Predict one layout in detail: time, memory, cost and what they are made of.

Examples:

    simtrain simulate plan.json

    simtrain simulate plan.json --rank 3 --json

    simtrain simulate llama-3-70b dgx-h100 --gpus 64 --tp 8 --sp --pp 4 --zero 1 --micro-batch 1 --global-batch 128

The data-parallel degree is what tp, cp and pp leave. Exit codes: 0 it fits, 1 it does not, 2 wrong input."""


def simulate(
    model: Annotated[str, typer.Argument(help="A plan file (.json) written by `simtrain plan --out`, or a model.")],
    cluster: Annotated[str | None, typer.Argument(help="Cluster, when the first argument is a model.")] = None,
    rank: Annotated[str, typer.Option(help="Which plan of the plan file.")] = "1",
    gpus: Annotated[str | None, typer.Option(help="Devices to use.")] = None,
    seq: Annotated[str | None, typer.Option(help="Sequence length.")] = None,
    global_batch: Annotated[str | None, typer.Option(help="Sequences a step.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens to train on.")] = None,
    precision: Annotated[str | None, typer.Option(help="Number formats.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Optimizer.")] = None,
    stack: Annotated[str | None, typer.Option(help="Training framework.")] = None,
    tp: Annotated[str, typer.Option(help="Tensor degree.")] = "1",
    sp: Annotated[bool, typer.Option("--sp", help="Sequence parallelism.")] = False,
    pp: Annotated[str, typer.Option(help="Pipeline degree.")] = "1",
    vpp: Annotated[str, typer.Option(help="Chunks a stage; more than 1 is the interleaved schedule.")] = "1",
    cp: Annotated[str, typer.Option(help="Context degree, as a ring.")] = "1",
    ulysses: Annotated[str, typer.Option(help="Context degree, over heads.")] = "1",
    ep: Annotated[str, typer.Option(help="Expert degree.")] = "1",
    etp: Annotated[str, typer.Option(help="Tensor degree inside an expert.")] = "1",
    zero: Annotated[str, typer.Option(help="State sharding: 0, 1, 2 or 3.")] = "0",
    shard_group: Annotated[
        str | None, typer.Option(help="Ranks a sharded state is spread over; all by default.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="gpipe, 1f1b or interleaved.")] = None,
    micro_batch: Annotated[str, typer.Option(help="Sequences a microbatch.")] = "1",
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    full_layers: Annotated[str, typer.Option(help="Layers a stage recomputed in full besides.")] = "0",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Estimate the plan and show it."""
    from simtrain.cli.inputs import request
    from simtrain.cli.output import console, print_json
    from simtrain.cli.planfile import read_plan
    from simtrain.errors import WrongInput
    from simtrain.estimate import detail, estimate, machine
    from simtrain.search.layout import Layout
    from simtrain.spec.plan import PlanTable
    from simtrain.views.document import simulate_document
    from simtrain.views.tables import job_line, print_plan

    if Path(model).suffix == ".json" and Path(model).name != "config.json" and cluster is None:
        job, plan = read_plan(Path(model), rank)
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
        )
        try:
            job = request(
                model,
                cluster,
                {"gpus": gpus, "seq": seq, "global_batch": global_batch, "tokens": tokens},
                {"precision": precision, "optimizer": optimizer, "stack": stack},
            ).job()
        except WrongInput as error:
            raise WrongInput([*error.problems, *layout.problems()]) from None
        plan = layout.plan(job)
    on = machine(job)
    table = PlanTable.of([plan])
    result = estimate(job, table, on)
    document = simulate_document(job, result, detail(job, table, on))
    if as_json:
        print_json(document)
    else:
        out = console()
        out.print(job_line(job), style="bold")
        print_plan(out, job, document["plans"][0], title="Plan")
    if not document["plans"][0]["fits"]:
        raise typer.Exit(1)
