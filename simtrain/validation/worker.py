"""What the validation worker (validate/run) runs, and the stack that describes it."""

from simtrain.errors import Problem
from simtrain.price.profile import FOLDER
from simtrain.price.tables import columns
from simtrain.search.layout import described, stated
from simtrain.search.space import broken_rules
from simtrain.spec import load
from simtrain.spec.base import Duration, Evidence, Fact
from simtrain.spec.job import Job
from simtrain.spec.library import path_of
from simtrain.spec.memory_plan import MemoryPlan
from simtrain.spec.plan import Plan, PlanTable
from simtrain.validation.own_profile import RECORDED


def worker_job(job: Job) -> Job:
    """The job with the stack that describes the validation worker on its device.

    A GPU's host launches as fast as it was measured to, where it was (launch.csv of the device's own profile).
    """
    device = job.cluster.device
    if device.architecture == "cpu":
        return job.model_copy(update={"stack": load.stack("torch-plain-gloo")})
    stack = load.stack("torch-plain")
    path = path_of(FOLDER, device.profile or device.name, "launch.csv")
    if path.is_file():
        table = columns(path)
        seconds = table["time_s"][table["name"] == RECORDED]
        if len(seconds):
            launch = Fact[Duration](value=f"{float(seconds[0])!r} s", source=str(path), evidence=Evidence.MEASURED_HERE)
            stack = stack.model_copy(update={"launch": launch})
    return job.model_copy(update={"stack": stack})


def unsupported(job: Job, plan: Plan) -> list[Problem]:
    """What the worker cannot build or lay out."""
    model, asked = job.model, []
    features = {
        "latent attention": model.latent is not None,
        "sliding windows": model.window is not None,
        "learned positions": model.learned_positions > 0,
        "biases": model.query_key_value_bias or model.output_bias or model.mlp_bias or model.head_bias,
        "norms of queries and keys": model.qk_norm != "none",
        "more than two norms a layer": model.norms_per_layer != 2 or model.embedding_norm,
        "shared experts": model.experts is not None and model.experts.shared_ffn > 0,
        "tied embeddings": model.tied_embeddings,
    }
    asked += [
        Problem(f"model {model.name}", None, f"has {name}, which the worker does not build")
        for name, has in features.items()
        if has
    ]
    layouts = {
        "a ring beside head exchange (--ulysses); use one of them": plan.cp_ring > 1 and plan.cp_head > 1,
        "a ring whose attention is recomputed in part; use --recompute full or none": plan.cp_ring > 1
        and plan.recompute == "selective",
        "experts with tensor ranks": model.experts is not None and plan.tp > 1,
        "adapters": job.frozen,
        "frozen weights": bool(job.freeze),
        "more tensor ranks than key-value heads": model.kv_heads % plan.tp > 0,
        "a vocabulary that tensor ranks do not divide": model.vocabulary % plan.tp > 0,
        "offloaded optimizer states beside sharding": plan.offload == "optimizer" and plan.zero > 0,
        "offload of weights without sharding": plan.offload == "all" and plan.zero == 0,
    }
    asked += [
        Problem("layout", None, f"has {name}, which the worker does not run") for name, has in layouts.items() if has
    ]
    asked += [] if plan.memory is None else _untreated(job, plan, plan.memory)
    if job.precision.matmul not in ("fp32", "tf32", "bf16"):
        asked.append(Problem("precision", job.precision.name, "is not run by the worker", "use bf16-mixed or fp32"))
    table = PlanTable.of([plan])
    broken = broken_rules(job, table)[0]
    return asked + [Problem(f"worker: {described(job, table, rule)}", None, stated(rule)) for rule in broken]


def _untreated(job: Job, plan: Plan, memory: MemoryPlan) -> list[Problem]:
    """What the worker cannot do of a memory plan (validate/run/memory.py)."""
    of = [treatment for stage in memory.stages for treatment in stage.tensors.values()]
    fewest = min(job.model.layers // plan.pp, job.model.layers)
    again, moved = (max((getattr(one, how) for one in of), default=0) for how in ("recompute", "offload"))
    asked = {
        "keeps tensors in fewer bits": any(one.quantise for one in of),
        "moves tensors to drives": memory.tier == "nvme" and moved > 0,
        "rebuilds layers in parts": memory.layer_chunks > 1,
        "takes the loss in parts": memory.loss_chunks > 1,
        "stands beside tensor ranks": plan.tp > 1,
        "stands beside a ring": plan.cp_ring > 1,
        "stands beside chunks of a pipeline": plan.vpp > 1,
        "stands beside experts": job.model.experts is not None,
        "makes again and moves tensors of one layer": again + moved > fewest and min(again, moved) > 0,
    }
    nearest = f"the nearest that runs: no memory plan, --full-layers {again}"
    rule = "which the worker does not run"
    return [Problem("memory plan", None, f"{what}, {rule}", nearest) for what, so in asked.items() if so]
