"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

JOB: Final = "The job"


def stated(help: str, metavar: str = "N", panel: str = JOB) -> Any:
    """An option whose value is text: it is checked with everything else that was stated, so that all is reported."""
    return typer.Option(metavar=metavar, help=help, rich_help_panel=panel)


Cluster = Annotated[str | None, typer.Argument(metavar="CLUSTER", help="Cluster; left out after a file that names it.")]
Gpus = Annotated[str | None, stated("Devices to use; all of the cluster if not given.")]
Seq = Annotated[str | None, stated("Sequence length, 8192 or 8k; up to 4096 if not given.")]
GlobalBatch = Annotated[
    str | None,
    stated("Sequences a step: 1024, or to choose from 512,1024 or 1536..4096; about 4 Mi tokens if not given."),
]
Tokens = Annotated[str | None, stated("Tokens to train on, e.g. 15T: adds days and cost.")]
Precision = Annotated[str | None, stated("Number formats; bf16-mixed where the device has bf16.", "NAME")]
Optimizer = Annotated[str | None, stated("Optimizer; adamw if not given.", "NAME")]
Stack = Annotated[str | None, stated("Training framework; megatron-core if not given.", "NAME")]
Calibration = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file written by simtrain calibrate --runs.", rich_help_panel=JOB),
]
AdapterRank = Annotated[
    str | None, stated("Rank of adapters trained beside a frozen model (LoRA); all weights train if not given.")
]
Freeze = Annotated[
    str | None, stated("Weights that are not trained, e.g. embedding,attention=0.5 (a share of the layers).", "LIST")
]
MEMORY: Final = "Memory"
Allow = Annotated[
    str | None,
    stated(
        "What memory plans may do with activations: recompute, cpu, nvme (move them there), quantise, chunk "
        "(loss and rebuilt layers in parts of the sequence).",
        "LIST",
        MEMORY,
    ),
]
MemoryCap = Annotated[
    str | None, stated("Device memory to plan for, e.g. 60GiB; the device's if not given.", "SIZE", MEMORY)
]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON instead of tables.")]
COURSE: Final = "How the step runs"
OwnOrder = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Run the actions of this table (.csv as torch.distributed.pipelining writes it, or .json) instead of "
        "the schedule's.",
        rich_help_panel=COURSE,
    ),
]
Slow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PLACE:FACTOR",
        help="What is slower than it should be, once an option: stage=3:1.2, replica=1:1.1, rank=17:2.",
        rich_help_panel=COURSE,
    ),
]
OwnDurations = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Seconds of passes (.csv) instead of predicted ones.", rich_help_panel=COURSE),
]
