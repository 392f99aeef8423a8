"""From what a trainer's configuration says to a job and a plan."""

from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, Final

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.export import deepspeed, megatron_lm_read, torchtitan
from simtrain.export.settings import Imported
from simtrain.search.layout import AXES, Layout
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.spec.request import Request

READERS: Final = {"megatron-lm": megatron_lm_read.read, "torchtitan": torchtitan.read, "deepspeed": deepspeed.read}
STACK_OF: Final = {"megatron-lm": "megatron-core", "torchtitan": "torchtitan", "deepspeed": "deepspeed"}
PLAIN: Final[dict[str, Any]] = {
    "tp": "1",
    "sp": False,
    "pp": "1",
    "vpp": "1",
    "cp": "1",
    "ulysses": "1",
    "ep": "1",
    "etp": "1",
    "zero": "0",
    "shard_group": None,
    "schedule": None,
    "micro_batch": "1",
    "recompute": "none",
    "full_layers": "0",
    "offload": "none",
}
"""A layout of which nothing is said."""


@dataclass(frozen=True)
class Brought:
    """A configuration that was brought, as a job and a plan."""

    job: Job
    plan: Plan
    imported: Imported


def brought(trainer: str, text: str, stated: Request, layout: dict[str, Any]) -> Brought:
    """Job and plan of a trainer's configuration; `stated` and `layout` go before what it says.

    WrongInput: an unknown trainer, settings that contradict one another, or a model nobody names.
    """
    if trainer not in READERS:
        raise WrongInput([Problem("--from", trainer, "is not known", nearest(trainer, READERS))])
    written = Layout(**PLAIN | layout)
    try:
        imported = READERS[trainer](text)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *stated.problems(), *written.problems()]) from None
    asked = Request(**{"stack": STACK_OF[trainer]} | imported.job).overridden_by(stated)
    shape = imported.model if stated.model is None else None
    if shape is None and stated.model is None:
        hint = "name it before the cluster" + (f" ({imported.remarks[-1]})" if imported.remarks else "")
        missing = Problem("model", None, "is not in this configuration", hint)
        raise WrongInput([missing, *asked.problems(), *written.problems()])
    try:
        job = asked.job(shape)
    except WrongInput as wrong:
        raise WrongInput([*wrong.problems, *written.problems()]) from None
    if asked.global_batch is None:
        job = job.model_copy(update={"global_batch": (_batch(imported, layout, job),)})
    wanted, remarks = _laid(imported, layout, job)
    plan = Layout(**PLAIN | wanted).plan(job)
    return Brought(job, plan, replace(imported, remarks=(*imported.remarks, *remarks)))


def _laid(imported: Imported, layout: dict[str, Any], job: Job) -> tuple[dict[str, Any], list[str]]:
    """Fields of a Layout, where what the configuration leaves open hangs on model and devices."""
    told = imported.layout | layout
    remarks = []
    number = {name: int(text) for name, text in told.items() if isinstance(text, str) and text.isdecimal()}
    zeros = [name for name in (*AXES, "micro_batch") if number.get(name) == 0]
    if zeros:
        raise WrongInput([Problem(f"--{name}", 0, "must be at least 1", "write 1 or leave it out") for name in zeros])
    tp, pp = number.get("tp", 1), number.get("pp", 1)
    ranks = max(job.devices // (tp * pp), 1)
    chunk, every = told.pop("layers_per_chunk", None), told.pop("full_every", 0)
    if chunk and pp > 1:
        told["vpp"] = str(max(-(-job.model.layers // (pp * chunk)), 1))
    if every:
        told["full_layers"] = str(max(job.model.layers // pp // every, 1))
        if every == 1:
            told |= {"full_layers": "0", "recompute": "full"}
    steps, context = number.get("accumulation"), number.get("cp", 1) * number.get("ulysses", 1)
    each = job.global_batch[0] * context // ranks
    if steps and "micro_batch" not in told:
        told["micro_batch"] = str(max(each // steps, 1))
    elif steps and steps * number["micro_batch"] != each:
        micro, batch = number["micro_batch"], job.global_batch[0]
        rule = f"of {micro} sequences on {ranks // context} ranks are not the batch of {batch}"
        hint = (
            f"state {each / micro:g}, or leave it out; degrees that it has no place for go beside it (--tp, --pp, --cp)"
        )
        raise WrongInput([Problem("gradient accumulation", steps, rule, hint)])
    if imported.data_ranks not in (None, ranks // context):
        rule = f"is not the {ranks // context} that {job.devices} devices leave"
        raise WrongInput([Problem("data-parallel ranks", imported.data_ranks, rule, "state --gpus, or leave them out")])
    if number.get("zero") and ranks == 1:
        told["zero"] = "0"
        remarks.append("with one data-parallel rank nothing is sharded: the optimizer is whole")
    elif number.get("zero") and imported.replicas > 1 and "shard_group" not in told:
        if ranks % imported.replicas:
            rule = f"must divide the {ranks} data-parallel ranks (context ranks among them)"
            raise WrongInput([Problem("copies of the sharded states", imported.replicas, rule)])
        told["shard_group"] = str(ranks // imported.replicas)
    return {name: value for name, value in told.items() if name in _NAMES}, remarks


def _batch(imported: Imported, layout: dict[str, Any], job: Job) -> int:
    """Sequences a step where nothing says so: every data-parallel rank's microbatch, as often as it accumulates."""
    told = imported.layout | layout
    number = {
        name: int(told.get(name) or 1) for name in (*AXES, "micro_batch", "accumulation") if _counts(told.get(name))
    }
    taken = prod(number.get(name, 1) for name in AXES)
    return max(job.devices // taken, 1) * number.get("micro_batch", 1) * number.get("accumulation", 1)


def _counts(text: object) -> bool:
    return isinstance(text, str) and text.isdecimal() and int(text) > 0


_NAMES: Final = {field.name for field in fields(Layout)}
