"""Arguments of Megatron-LM as a job and a layout."""

import shlex
from typing import Any

from simtrain.errors import Problem, WrongInput
from simtrain.export.megatron_lm import HYBRID, SHARDING, flags
from simtrain.export.megatron_lm_shape import Given, Numbers, catalogued, shape
from simtrain.export.settings import Imported
from simtrain.spec.base import checked
from simtrain.spec.model import Model


def read(text: str) -> Imported:
    """Job and layout of a command line, a script's arguments or a list of flags.

    WrongInput: flags that contradict one another, have unreadable values, or leave the model open.
    """
    known = flags()
    given, counts = _tokens(text)
    heard = {*known["values"], *known["switches"]}
    problems = [
        Problem(name, " ".join(sorted(said)), "is stated more than once, and differently", "leave one of them")
        for name, said in counts.items()
        if len(said) > 1 and name in heard
    ]
    problems += [
        Problem(name, given[name], "is a shell variable", "write its value")
        for name in given
        if name in known["values"] and "$" in given[name]
    ]
    problems += [Problem(name, None, "needs a value") for name in known["values"] if name in given and not given[name]]
    unreadable = {problem.where for problem in problems}
    stated = {name: value for name, value in given.items() if name in heard and name not in unreadable}
    numbers = Numbers(stated)
    remarks: list[str] = []
    layout, replicas = _layout(stated, numbers, remarks)
    if "--fp8-format" in stated:
        stated = {"--fp8-recipe": "delayed"} | stated
    precision, optimizer = (_chosen(known[table], stated) for table in ("precisions", "optimizers"))
    for flag, table, name in (
        ("--fp8-format", "precisions", precision),
        ("--fp4-format", "precisions", precision),
        ("--optimizer", "optimizers", optimizer),
    ):
        if flag in stated and flag not in known[table].get(name, {}):
            remarks.append(f"{flag} {stated[flag]} is not in the catalog like this: {name or 'adamw'} is taken")
    fields = shape(stated, numbers, remarks)
    problems += [problem for problem in numbers.problems if problem.where not in unreadable]
    problems += _contradictions(stated, numbers)
    if problems:
        raise WrongInput(problems)
    job = {"seq": stated["--seq-length"], "precision": precision, "optimizer": optimizer or "adamw"}
    if "--global-batch-size" in stated:
        job["global_batch"] = stated["--global-batch-size"]
    if "--train-samples" in stated:
        job["tokens"] = str(numbers.of("--train-samples") * numbers.of("--seq-length"))
    known_silent = set(known["without_effect"])
    return Imported(
        job=job,
        layout=layout,
        model=catalogued(checked(Model, fields, "model")),
        replicas=replicas,
        unknown=tuple(name for name in given if name not in heard and name not in known_silent),
        without_effect=tuple(name for name in given if name in known_silent),
        remarks=tuple(remarks),
    )


def _tokens(text: str) -> tuple[Given, dict[str, set[str]]]:
    """Flags with their values joined by a blank, and all that was said of each; what stands before the first is cut."""
    try:
        words = shlex.split(text.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise WrongInput([Problem("ARGS", None, f"cannot be split into words: {error}")]) from None
    program = next((place for place, word in enumerate(words) if word.endswith(".py")), -1)
    said: list[tuple[str, list[str]]] = []
    for word in words[program + 1 :]:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            said.append((name, [value] if equals else []))
        elif said:
            said[-1][1].append(word)
    if not said:
        raise WrongInput([Problem("ARGS", text[:60], "holds no flag", "give what follows pretrain_gpt.py")])
    counts: dict[str, set[str]] = {}
    for name, values in said:
        counts.setdefault(name, set()).add(" ".join(values))
    return {name: " ".join(values) for name, values in said}, counts


def _chosen(table: dict[str, dict[str, Any]], stated: Given) -> str:
    """The entry whose flags are all stated, the one with most of them."""

    def holds(wanted: dict[str, Any]) -> bool:
        return all(name in stated and value in (True, stated[name]) for name, value in wanted.items())

    return max((name for name in table if holds(table[name])), key=lambda name: len(table[name]), default="")


def _layout(stated: Given, numbers: Numbers, remarks: list[str]) -> tuple[dict[str, Any], int]:
    tp, pp, cp = (numbers.of(f"--{axis}-parallel-size") for axis in ("tensor-model", "pipeline-model", "context"))
    sp = "--sequence-parallel" in stated and tp > 1
    if "--sequence-parallel" in stated and tp == 1:
        remarks.append("--sequence-parallel does nothing without tensor ranks: Megatron-LM turns it off")
    head = _heads_exchanged(stated, cp)
    vpp = _chunks(numbers, pp)
    mixture = "--num-experts" in stated
    zero = 1 if "--use-distributed-optimizer" in stated else 0
    strategies = {name: row for row, name in SHARDING.items()} | {"optim": 1, "no_shard": 0}
    if "--use-megatron-fsdp" in stated:
        strategy = stated.get("--data-parallel-sharding-strategy", "no_shard")
        if strategy not in strategies:
            remarks.append(f"--data-parallel-sharding-strategy {strategy} is not known: zero {zero} is predicted")
        zero = strategies.get(strategy, zero)
    recompute, layers = _recomputed(stated, numbers, vpp, remarks)
    layout = {
        "tp": tp,
        "pp": pp,
        "vpp": vpp,
        "cp": cp // head,
        "ulysses": head,
        "ep": numbers.of("--expert-model-parallel-size"),
        "etp": numbers.of("--expert-tensor-parallel-size", tp if mixture else 1),
        "zero": zero,
        "micro_batch": numbers.of("--micro-batch-size"),
        "recompute": recompute,
        "full_layers": layers,
        "offload": HYBRID if "--optimizer-cpu-offload" in stated else "none",
    }
    return {"sp": sp} | {name: str(value) for name, value in layout.items()}, numbers.of(
        "--num-distributed-optimizer-instances"
    )


def _heads_exchanged(stated: Given, cp: int) -> int:
    """Of the context degree, the part that exchanges heads."""
    kind = stated.get("--cp-comm-type", "p2p")
    if kind == "a2a":
        return cp
    first = stated.get("--hierarchical-context-parallel-sizes", "").split()[:1]
    return int(first[0]) if kind == "a2a+p2p" and first and first[0].isdecimal() and cp % int(first[0]) == 0 else 1


def _chunks(numbers: Numbers, pp: int) -> int:
    chunks = numbers.of("--num-virtual-stages-per-pipeline-rank")
    if "--num-layers-per-virtual-pipeline-stage" in numbers.stated:
        each = numbers.of("--num-layers-per-virtual-pipeline-stage")
        chunks = max(numbers.of("--num-layers") // (each * pp), 1)
    return chunks


def _recomputed(stated: Given, numbers: Numbers, vpp: int, remarks: list[str]) -> tuple[str, int]:
    granularity = stated.get("--recompute-granularity", "")
    if "--recompute-modules" in stated:
        remarks.append(
            f"--recompute-modules {stated['--recompute-modules']}: the stack's own selection is predicted, "
            "state a --stack that rebuilds these"
        )
    if stated.get("--recompute-method") == "uniform" and stated.get("--recompute-num-layers", "1") != "1":
        remarks.append("--recompute-method uniform is predicted with groups of one layer")
    if "--recompute-method" in stated and not granularity:
        remarks.append(
            "--recompute-method alone recomputes in full, as in 2021; today it needs --recompute-granularity full"
        )
        granularity = "full"
    if "--checkpoint-activations" in stated:
        return "full", 0
    if granularity == "full" and stated.get("--recompute-method") == "block":
        layers = stated.get("--recompute-num-layers", "1")
        return "none", 0 if layers == "0" else numbers.of("--recompute-num-layers") * vpp
    if granularity == "selective" or "--recompute-activations" in stated:
        return "selective", 0
    return ("full", 0) if granularity == "full" else ("none", 0)


def _contradictions(stated: Given, numbers: Numbers) -> list[Problem]:
    tp_pp = "--pipeline-model-parallel-size"
    pp, layers = numbers.of(tp_pp), numbers.of("--num-layers")
    each = numbers.of("--num-layers-per-virtual-pipeline-stage")
    positions, sequence = numbers.of("--max-position-embeddings"), numbers.of("--seq-length")
    checks = [
        (
            {"--max-position-embeddings", "--seq-length"} <= stated.keys() and positions < sequence,
            "--max-position-embeddings",
            f"is below --seq-length {sequence}: Megatron-LM stops",
            f"state {sequence} or more",
        ),
        ("--bf16" in stated and "--fp16" in stated, "--bf16 --fp16", "name two number formats", "leave one of them"),
        (
            {"--num-layers-per-virtual-pipeline-stage", "--num-virtual-stages-per-pipeline-rank"} <= stated.keys(),
            "--num-layers-per-virtual-pipeline-stage --num-virtual-stages-per-pipeline-rank",
            "say the same thing twice",
            "leave one of them",
        ),
        (
            "--num-layers-per-virtual-pipeline-stage" in stated and (pp < 2 or layers % (each * pp) != 0),
            "--num-layers-per-virtual-pipeline-stage",
            f"must divide the {layers} layers over {pp} stages, of which there must be more than one",
            f"choose one with {tp_pp} x it x whole chunks = {layers}",
        ),
        (
            stated.get("--recompute-granularity") == "full" and "--recompute-method" not in stated,
            "--recompute-granularity full",
            "needs --recompute-method: Megatron-LM stops without",
            "add --recompute-method uniform --recompute-num-layers 1",
        ),
        (
            "--recompute-method" in stated and stated.get("--recompute-granularity") == "selective",
            "--recompute-method",
            "is for --recompute-granularity full, and selective is stated",
            "leave one of them out",
        ),
        (
            "--num-query-groups" in stated and "--group-query-attention" not in stated,
            "--num-query-groups",
            "does nothing without --group-query-attention",
            "add --group-query-attention, or leave it out",
        ),
        (
            "--overlap-param-gather" in stated
            and not {"--use-distributed-optimizer", "--use-megatron-fsdp"} & stated.keys(),
            "--overlap-param-gather",
            "gathers nothing without a sharded optimizer",
            "add --use-distributed-optimizer, or leave it out",
        ),
        (
            "--overlap-param-gather" in stated and "--overlap-grad-reduce" not in stated,
            "--overlap-param-gather",
            "needs --overlap-grad-reduce: Megatron-LM stops without",
            "add --overlap-grad-reduce",
        ),
        (
            numbers.of("--expert-model-parallel-size") > 1 and "--num-experts" not in stated,
            "--expert-model-parallel-size",
            "spreads experts, and the model has none",
            "add --num-experts, or leave it out",
        ),
    ]
    return [Problem(where, None, rule, hint) for broken, where, rule, hint in checks if broken]
