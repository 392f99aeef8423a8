"""`simtrain plan`: model and cluster in, ranked plans out."""

from pathlib import Path
from typing import Annotated

import typer

HELP = """Find the best layouts for training MODEL on CLUSTER.

Examples:

    simtrain plan llama-3-70b dgx-h100 --gpus 512 --seq 8192 --global-batch 1024 --tokens 15T --out plan.json

    simtrain plan path/to/config.json my-cluster.toml --gpus 64

    simtrain plan job.toml --gpus 128

    simtrain plan gpt-3-175b dgx-a100 --gpus 4096 --global-batch 1536..4096 --json

MODEL is a catalog name, a Hugging Face config.json or our own .toml; CLUSTER a catalog name or a .toml.
Exit codes: 0 a plan was found, 1 nothing fits, 2 wrong input."""


def plan(
    model: Annotated[str, typer.Argument(help="Model, or a job file (.toml) that names model and cluster.")],
    cluster: Annotated[str | None, typer.Argument(help="Cluster.")] = None,
    gpus: Annotated[str | None, typer.Option(help="Devices to use; all of the cluster if not given.")] = None,
    seq: Annotated[str | None, typer.Option(help="Sequence length: 8192 or 8k.")] = None,
    global_batch: Annotated[
        str | None, typer.Option(help="Sequences a step: 1024, 512,1024 or 1536..4096. About 4 Mi tokens by default.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens to train on, e.g. 15T: adds days and cost.")] = None,
    precision: Annotated[str | None, typer.Option(help="Number formats; bf16-mixed where the device has bf16.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Optimizer; adamw by default.")] = None,
    stack: Annotated[str | None, typer.Option(help="Training framework; megatron-core by default.")] = None,
    top: Annotated[str, typer.Option(help="Plans to rank.")] = "5",
    out: Annotated[Path | None, typer.Option(help="Write the answer here as JSON, for `simtrain simulate`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Run the search and show it."""
    from simtrain.cli.inputs import request
    from simtrain.cli.output import check_writable, console, print_json, progress, write_json
    from simtrain.errors import Problem, WrongInput
    from simtrain.search.advice import advice
    from simtrain.search.search import search
    from simtrain.views.document import plan_document
    from simtrain.views.tables import print_nothing_fits, print_search

    problems = check_writable(out)
    if not top.isdecimal() or int(top) < 1:
        problems.append(Problem("--top", top, "must be a whole number of at least 1"))
    job = None
    try:
        asked = request(
            model,
            cluster,
            {"gpus": gpus, "seq": seq, "global_batch": global_batch, "tokens": tokens},
            {"precision": precision, "optimizer": optimizer, "stack": stack},
        )
        job = asked.job()
    except WrongInput as error:
        problems.extend(error.problems)
    if problems or job is None:
        raise WrongInput(problems)
    with progress("searching") as update:
        result = search(job, int(top), update)
    document = plan_document(result)
    if out is not None and len(result.best.plans):
        write_json(out, document)
    if as_json:
        print_json(document)
    elif len(result.best.plans):
        print_search(console(), result)
    else:
        print_nothing_fits(console(), result, advice(result) if result.tally.legal else [])
    if not len(result.best.plans):
        raise typer.Exit(1)
