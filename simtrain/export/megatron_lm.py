"""Megatron-LM: a plan as arguments of pretrain_gpt.py (names: NVIDIA/Megatron-LM megatron/training/arguments.py)."""

from typing import Any, Final

from simtrain.export.megatron_lm_shape import Numbers, described, shape
from simtrain.export.memory import modules
from simtrain.export.settings import Settings, Value, frozen_parts, stack_remark
from simtrain.spec.job import Job
from simtrain.spec.library import path_of, read_toml
from simtrain.spec.model import Model
from simtrain.spec.plan import Plan

NAME: Final = "megatron-lm"
STACKS: Final = ("megatron-core", "megatron-core-plain", "megatron-lm-2021", "megatron-lm-2022", "megatron-lm-2023")
SHARDING: Final = {2: "optim_grads", 3: "optim_grads_params"}
"""Strategies of Megatron-FSDP by row of the state table; row 1 is the distributed optimizer."""
MODULES: Final = {"core attention": "core_attn", "norm": "layernorm", "activation": "mlp", "latent up": "mla_up_proj"}
"""Modules selective recomputation names, by the roles of a stack."""

UNSTATED: Final = (
    "what changes no prediction is yours to state: data, learning rate (launch.sh takes DATA and SCHEDULE from the "
    "environment, else mock data and a constant rate), rotary base and scaling, norm epsilon, initialisation, dropout, "
    "router losses, and the activation where it is neither SwiGLU nor GeLU"
)
HYBRID: Final = "master=cpu,moments=cpu"
"""Placement of states under --optimizer-cpu-offload (HybridDeviceOptimizer)."""


def flags() -> dict[str, Any]:
    """The table of flags."""
    return read_toml(path_of("catalog/trainers", f"{NAME}.toml"))


def settings(job: Job, plan: Plan) -> Settings:
    """Every argument a plan needs, True for flags without a value."""
    known = flags()
    lost: list[str] = []
    values: dict[str, Value] = {**_shape(job.model, job.sequence, lost), **_parallel(job, plan, lost)}
    values |= {"--micro-batch-size": plan.micro_batch, "--global-batch-size": plan.global_batch}
    values |= _recomputation(job, plan, lost)
    for table, name in (("precisions", job.precision.name), ("optimizers", job.optimizer.name)):
        if name in known[table]:
            values |= known[table][name]
        else:
            lost.append(f"{table.removesuffix('s')} {name}: no flag selects it")
    if job.tokens is not None:
        values["--train-samples"] = -(-job.tokens // job.sequence)
    lost.extend(frozen_parts(job))
    if job.frozen:
        lost.append(f"adapters of rank {job.adapter_rank}: pretrain_gpt.py trains every weight")
    chosen = modules(job, plan)
    values |= _of_modules(*chosen) if chosen else {}
    remarks = (UNSTATED, *stack_remark(job, STACKS, "Megatron-LM"))
    return Settings(values, tuple(lost), remarks, memory=chosen is not None)


def _shape(model: Model, sequence: int, lost: list[str]) -> dict[str, Value]:
    values: dict[str, Value] = {
        "--num-layers": model.layers,
        "--hidden-size": model.hidden,
        "--num-attention-heads": model.heads,
        "--seq-length": sequence,
        "--max-position-embeddings": max(sequence, model.learned_positions or model.maximum_positions),
        "--vocab-size": model.vocabulary,
        "--position-embedding-type": "learned_absolute" if model.learned_positions else "rope",
        "--normalization": "RMSNorm" if model.norm == "rms" else "LayerNorm",
    }
    if model.ffn:
        values["--ffn-hidden-size"] = model.ffn
    if model.kv_heads != model.heads:
        values |= {"--group-query-attention": True, "--num-query-groups": model.kv_heads}
    if model.latent is None and model.head_dim * model.heads != model.hidden:
        values["--kv-channels"] = model.head_dim
    switches = {
        "--swiglu": model.gated,
        "--untie-embeddings-and-output-weights": not model.tied_embeddings,
        "--qk-layernorm": model.qk_norm == "head",
        "--disable-bias-linear": not (model.mlp_bias and model.output_bias),
        "--add-qkv-bias": model.query_key_value_bias and not (model.mlp_bias and model.output_bias),
    }
    values |= {name: True for name, held in switches.items() if held}
    values |= _mixture(model) | _latent(model)
    lost += [f"model: {name} {value} is not in these arguments" for name, value in _unsaid(model, values).items()]
    return values


def _unsaid(model: Model, values: dict[str, Value]) -> dict[str, object]:
    """What the model has and who reads these arguments would not know."""
    stated = {name: "" if value is True else str(value) for name, value in values.items()}
    read, own = described(Model(**shape(stated, Numbers(stated), []))), described(model)
    return {name: value for name, value in own.items() if read[name] != value}


def _mixture(model: Model) -> dict[str, Value]:
    experts = model.experts
    if experts is None:
        return {}
    dense = experts.first_dense_layers
    pattern = [
        int(layer >= dense and (layer - dense) % experts.every == experts.every - 1) for layer in range(model.layers)
    ]
    values: dict[str, Value] = {
        "--num-experts": experts.count,
        "--moe-router-topk": experts.top_k,
        "--moe-ffn-hidden-size": experts.ffn,
        "--moe-grouped-gemm": True,
        "--moe-token-dispatcher-type": "alltoall",
    }
    if experts.router_bias:
        values["--moe-router-enable-expert-bias"] = True
    if experts.shared_ffn:
        values["--moe-shared-expert-intermediate-size"] = experts.shared_ffn
    if not all(pattern):
        values["--moe-layer-freq"] = f"[{','.join(map(str, pattern))}]"
    return values


def _latent(model: Model) -> dict[str, Value]:
    latent = model.latent
    if latent is None:
        return {}
    query: dict[str, Value] = {"--q-lora-rank": latent.query_rank} if latent.query_rank else {}
    return query | {
        "--multi-latent-attention": True,
        "--kv-lora-rank": latent.key_value_rank,
        "--qk-head-dim": latent.nope_head_dim,
        "--qk-pos-emb-head-dim": latent.rope_head_dim,
        "--v-head-dim": latent.value_head_dim,
    }


def _parallel(job: Job, plan: Plan, lost: list[str]) -> dict[str, Value]:
    values: dict[str, Value] = {
        "--tensor-model-parallel-size": plan.tp,
        "--pipeline-model-parallel-size": plan.pp,
        "--context-parallel-size": plan.cp_ring * plan.cp_head,
    }
    if plan.sp:
        values["--sequence-parallel"] = True
    if plan.vpp > 1:
        values["--num-layers-per-virtual-pipeline-stage"] = job.model.layers // (plan.pp * plan.vpp)
    if plan.schedule not in ("1f1b", "interleaved"):
        lost.append(f"schedule {plan.schedule}: Megatron-LM runs 1F1B, interleaved where stages have chunks")
    if job.model.layers % plan.pp:
        lost.append(f"{job.model.layers} layers over {plan.pp} stages: state --pipeline-model-parallel-layout yourself")
    if plan.cp_head > 1:
        values["--cp-comm-type"] = "a2a" if plan.cp_ring == 1 else "a2a+p2p"
    if plan.cp_head > 1 and plan.cp_ring > 1:
        values["--hierarchical-context-parallel-sizes"] = f"{plan.cp_head} {plan.cp_ring}"
    if job.model.experts is not None:
        values |= {"--expert-model-parallel-size": plan.ep, "--expert-tensor-parallel-size": plan.etp}
    return values | _sharding(job, plan, lost)


def _sharding(job: Job, plan: Plan, lost: list[str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    if job.stack.overlap.gradient_reduction.value > 0 and plan.dp * plan.cp_ring * plan.cp_head > 1:
        values["--overlap-grad-reduce"] = True
    if plan.zero:
        values["--use-distributed-optimizer"] = True
        if job.stack.overlap.parameter_gathering.value > 0 and "--overlap-grad-reduce" in values:
            values["--overlap-param-gather"] = True
        copies = plan.dp * plan.cp_ring * plan.cp_head // plan.shard_group
        if copies > 1:
            values["--num-distributed-optimizer-instances"] = copies
    if plan.zero in SHARDING:
        values |= {"--use-megatron-fsdp": True, "--data-parallel-sharding-strategy": SHARDING[plan.zero]}
        values["--ckpt-format"] = "fsdp_dtensor"
    if plan.offload == HYBRID:
        values |= {"--optimizer-cpu-offload": True, "--use-precision-aware-optimizer": True}
    elif plan.offload != "none":
        lost.append(f"offload {plan.offload}: not in these arguments")
    return values


def _recomputation(job: Job, plan: Plan, lost: list[str]) -> dict[str, Value]:
    if plan.full_layers:
        if plan.recompute == "selective":
            lost.append("selective recomputation beside layers recomputed in full: Megatron-LM takes one granularity")
        if plan.full_layers % plan.vpp:
            lost.append(
                f"{plan.full_layers} recomputed layers a stage over {plan.vpp} chunks: the flag counts a chunk's"
            )
        layers = -(-plan.full_layers // plan.vpp)
        return _granularity("full") | {"--recompute-method": "block", "--recompute-num-layers": layers}
    if plan.recompute == "full":
        return _granularity("full") | {"--recompute-method": "uniform", "--recompute-num-layers": 1}
    if plan.recompute == "selective":
        modules = [MODULES[role] for role in job.stack.selective]
        chosen: dict[str, Value] = {} if modules in ([], ["core_attn"]) else {"--recompute-modules": " ".join(modules)}
        return _granularity("selective") | chosen
    return {}


def _of_modules(again: list[str], moved: list[str]) -> dict[str, Value]:
    """A memory plan in modules (NVIDIA Megatron-Core, user guide, fine-grained activation offloading)."""
    values: dict[str, Value] = {}
    if again:
        values |= _granularity("selective") | {"--recompute-modules": " ".join(again)}
    if moved:
        values |= {"--fine-grained-activation-offloading": True, "--offload-modules": " ".join(moved)}
    return values


def _granularity(name: str) -> dict[str, Value]:
    return {"--recompute-granularity": name}
