"""A job as people write it, on the command line or in a job file: names, paths and numbers with units."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import gcd
from pathlib import Path
from typing import Any, Self, TypeVar

from simtrain import units
from simtrain.errors import Problem, WrongInput, nearest
from simtrain.spec import load
from simtrain.spec.base import checked
from simtrain.spec.catalog import model
from simtrain.spec.hardware import Cluster
from simtrain.spec.job import Job
from simtrain.spec.library import read_toml
from simtrain.spec.model import Model

TOKENS_A_STEP = 4 * 2**20
"""Default global batch in tokens, the size large dense models are usually trained at (GPT-3: 3.2 M, Llama 3: 4-16 M)."""
T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """Fields as text; None where nothing was said."""

    model: str | None = None
    cluster: str | None = None
    gpus: str | None = None
    seq: str | None = None
    global_batch: str | None = None
    tokens: str | None = None
    precision: str | None = None
    optimizer: str | None = None
    stack: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """A job file: TOML with these fields as keys."""
        data = read_toml(path)
        known = [field.name for field in fields(cls)]
        problems = [
            Problem(f"{path}: {key}", None, "is not a known key", nearest(key, known))
            for key in data
            if key not in known
        ]
        problems += [
            Problem(f"{path}: {key}", None, "must be a name, a path or a number")
            for key, value in data.items()
            if key in known and (isinstance(value, bool) or not isinstance(value, (str, int)))
        ]
        if problems:
            raise WrongInput(problems)
        here = path.parent
        text = {key: str(value) for key, value in data.items()}
        for key in ("model", "cluster"):
            if key in text and (here / text[key]).exists():
                text[key] = str(here / text[key])
        return cls(**text)

    def overridden_by(self, other: "Request") -> "Request":
        """This request with every field `other` states."""
        stated = {key: value for key, value in vars(other).items() if value is not None}
        return Request(**(vars(self) | stated))

    def job(self) -> Job:
        """The job asked for; every problem in it is reported at once."""
        problems: list[Problem] = []

        def attempt(what: Callable[[], T]) -> T | None:
            try:
                return what()
            except WrongInput as error:
                problems.extend(error.problems)
                return None

        def required(name: str, value: str | None) -> str:
            if value is None:
                raise WrongInput([Problem(name, None, "is missing")])
            return value

        gpus = attempt(lambda: _count("--gpus", self.gpus, False))
        shape = attempt(lambda: model(required("model", self.model)))
        cluster = attempt(lambda: load.cluster(required("cluster", self.cluster), gpus))
        seq = attempt(lambda: _count("--seq", self.seq, True))
        batch = attempt(lambda: _batches(self.global_batch))
        tokens = attempt(lambda: _count("--tokens", self.tokens, False))
        stack = attempt(lambda: load.stack(self.stack or "megatron-core"))
        optimizer = attempt(lambda: load.optimizer(self.optimizer or "adamw"))
        default = "fp16-mixed" if cluster is not None and "bf16" not in cluster.device.peak else "bf16-mixed"
        precision = attempt(lambda: load.precision(self.precision or default))
        if cluster is not None and precision is not None and precision.matmul not in cluster.device.peak:
            known = ", ".join(sorted(cluster.device.peak))
            rule = f"{cluster.device.title} has no {precision.matmul} units"
            problems.append(Problem("--precision", precision.name, rule, f"its formats are {known}"))
        if shape is not None and seq is not None and 0 < shape.learned_positions < seq:
            rule = f"{shape.name} has {shape.learned_positions} learned positions"
            problems.append(Problem("--seq", seq, rule, f"use at most {shape.learned_positions}"))
        if cluster is not None:
            problems.extend(_partial_node(cluster, gpus or cluster.devices))
        if problems or shape is None or cluster is None:
            raise WrongInput(problems)
        sequence = seq or _default_sequence(shape)
        data: dict[str, Any] = {
            "model": shape,
            "cluster": cluster,
            "devices": gpus or cluster.devices,
            "sequence": sequence,
            "global_batch": batch or (max(1, TOKENS_A_STEP // sequence),),
            "precision": precision,
            "optimizer": optimizer,
            "stack": stack,
            "tokens": tokens,
        }
        return checked(Job, data, "job")


def _default_sequence(shape: Model) -> int:
    return min(shape.maximum_positions, 4096)


def _partial_node(cluster: Cluster, devices: int) -> list[Problem]:
    node = cluster.node.devices
    if devices % node == 0 or node % devices == 0:
        return []
    lower = max(devices // node * node, 1)
    rule = f"is neither part of a node nor whole nodes ({cluster.node.title} has {node} devices)"
    return [Problem("--gpus", devices, rule, f"use {lower} or {lower + node}")]


def _count(flag: str, text: str | None, binary_k: bool) -> int | None:
    if text is None:
        return None
    try:
        count = units.parse_count(text, binary_k)
    except ValueError as error:
        raise WrongInput([Problem(flag, text, str(error))]) from None
    if count < 1:
        raise WrongInput([Problem(flag, text, "must be at least 1")])
    return count


def _batches(text: str | None) -> tuple[int, ...] | None:
    """`1024`, a list `1024,2048`, or a range `1536..4096` in steps of the ends' greatest common divisor."""
    if text is None:
        return None
    low, dots, high = text.partition("..")
    if not dots:
        return tuple(sorted({_count("--global-batch", part, False) or 1 for part in text.split(",")}))
    first, last = _count("--global-batch", low, False) or 1, _count("--global-batch", high, False) or 1
    if first > last:
        raise WrongInput([Problem("--global-batch", text, "runs backwards", f"write {high}..{low}")])
    return tuple(range(first, last + 1, gcd(first, last)))
