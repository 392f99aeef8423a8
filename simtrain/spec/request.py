"""A job as people write it, on the command line or in a job file: names, paths and numbers with units."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import count
from math import gcd
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from simtrain import units
from simtrain.errors import Problem, WrongInput, nearest
from simtrain.spec import load
from simtrain.spec.base import checked
from simtrain.spec.catalog import model
from simtrain.spec.frozen import PARTS, Freeze
from simtrain.spec.hardware import Cluster
from simtrain.spec.job import Job
from simtrain.spec.library import names, read_toml
from simtrain.spec.model import Model
from simtrain.spec.precision import Precision

TOKENS_A_STEP = 4 * 2**20
"""Default global batch in tokens, a usual size for large dense models (GPT-3: 3.2 M, Llama 3: 4-16 M)."""
WRITTEN_LIKE: Final = {
    "--gpus": "64",
    "--seq": "8192 or 8k",
    "--global-batch": "1024",
    "--tokens": "15T",
    "--adapter-rank": "16",
}
LARGEST: Final = {"--gpus": 2**20, "--seq": 2**30, "--global-batch": 2**24, "--tokens": 2**60, "--adapter-rank": 2**16}
MOST_BATCHES: Final = 1024
"""Batch sizes one search may try."""
NO_MODEL: Final = Problem("MODEL", None, "is missing", "name a model; `simtrain show models` lists them")
NO_CLUSTER: Final = Problem(
    "CLUSTER",
    None,
    "is missing",
    "name a cluster after the model (`simtrain show clusters` lists them), or in the job file (.toml)",
)
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
    adapter_rank: str | None = None
    freeze: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """A job file: TOML with these fields as keys."""
        data = read_toml(path)
        known = [field.name for field in fields(cls)]
        text = {key: _as_text(value) for key, value in data.items()}
        problems = [
            Problem(f"{path}: {key}", None, "is not a known key", nearest(key, known))
            for key in data
            if key not in known
        ]
        problems += [
            Problem(f"{path}: {key}", data[key], "must be a name, a path, a whole number or a list of them")
            for key in known
            if key in data and text[key] is None
        ]
        here = path.parent
        for key in ("model", "cluster"):
            if (here / (text.get(key) or "")).is_file():
                text[key] = str(here / str(text[key]))
        readable = cls(**{key: value for key, value in text.items() if key in known and value is not None})
        if problems:
            raise WrongInput([*problems, *readable.problems()])
        return readable

    def overridden_by(self, other: "Request") -> "Request":
        """This request with every field `other` states."""
        stated = {key: value for key, value in vars(other).items() if value is not None}
        return Request(**(vars(self) | stated))

    def problems(self) -> list[Problem]:
        """What is wrong with the fields that are stated; that model or cluster are missing is not."""
        try:
            self.job()
        except WrongInput as wrong:
            return [problem for problem in wrong.problems if problem not in (NO_MODEL, NO_CLUSTER)]
        return []

    def job(self, given: Model | None = None) -> Job:
        """The job asked for, of the `given` model if there is one; every problem in it is reported at once."""
        problems: list[Problem] = []

        def attempt(what: Callable[[], T]) -> T | None:
            try:
                return what()
            except WrongInput as error:
                problems.extend(error.problems)
                return None

        def required(value: str | None, otherwise: Problem) -> str:
            if value is None:
                raise WrongInput([otherwise])
            return value

        shape = given or attempt(lambda: model(required(self.model, NO_MODEL)))
        gpus = attempt(lambda: _count("--gpus", self.gpus))
        cluster = attempt(lambda: load.cluster(required(self.cluster, NO_CLUSTER), gpus))
        seq = attempt(lambda: _count("--seq", self.seq))
        batch = attempt(lambda: _batches(self.global_batch))
        tokens = attempt(lambda: _count("--tokens", self.tokens))
        rank = attempt(lambda: _count("--adapter-rank", self.adapter_rank))
        freeze = attempt(lambda: _parts(self.freeze))
        default = "fp16-mixed" if cluster is not None and "bf16" not in cluster.device.peak else "bf16-mixed"
        precision = attempt(lambda: load.precision(default if self.precision is None else self.precision))
        optimizer = attempt(lambda: load.optimizer("adamw" if self.optimizer is None else self.optimizer))
        stack = attempt(lambda: load.stack("megatron-core" if self.stack is None else self.stack))
        if cluster is not None and precision is not None:
            problems.extend(_unsupported(cluster, precision))
        if shape is not None and seq is not None and 0 < shape.learned_positions < seq:
            rule = f"{shape.name} has {shape.learned_positions} learned positions"
            problems.append(Problem("--seq", self.seq, rule, f"use at most {shape.learned_positions}"))
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
            "adapter_rank": rank or 0,
            "freeze": freeze or {},
        }
        return checked(Job, data, "job")


def _as_text(value: Any) -> str | None:
    """A value of a job file as it would stand on the command line; None when it could not stand there."""
    if isinstance(value, list) and value and all(isinstance(part, int | str) for part in value):
        return ",".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _default_sequence(shape: Model) -> int:
    return min(shape.maximum_positions, 4096)


def _unsupported(cluster: Cluster, precision: Precision) -> list[Problem]:
    peak = cluster.device.peak
    if precision.matmul in peak:
        return []
    able = [name for name in names(load.PRECISIONS) if load.precision(name).matmul in peak]
    rule = f"{cluster.device.title} has no {precision.matmul} units"
    return [Problem("--precision", precision.name, rule, "it can run " + ", ".join(able))]


def _partial_node(cluster: Cluster, devices: int) -> list[Problem]:
    node = cluster.node.devices

    def whole(number: int) -> bool:
        return number % node == 0 or node % number == 0

    if whole(devices):
        return []
    lower = next(number for number in count(devices, -1) if whole(number))
    upper = next(number for number in count(devices) if whole(number))
    rule = f"is neither part of a node nor whole nodes: {cluster.node.title} has {node} devices"
    return [Problem("--gpus", devices, rule, f"use {lower} or {upper}")]


def _count(flag: str, text: str | None) -> int | None:
    """A whole number of at least 1; None when nothing was said, WrongInput when something else was."""
    if text is None:
        return None
    try:
        number = units.parse_count(text, binary_k=flag == "--seq")
    except ValueError:
        number = 0
    if number < 1:
        rule = "must be a whole number of at least 1"
        raise WrongInput([Problem(flag, text, rule, f"write it like {WRITTEN_LIKE[flag]}")])
    if number > LARGEST[flag]:
        raise WrongInput([Problem(flag, text, f"must be at most {LARGEST[flag]:,}")])
    return number


def _parts(text: str | None) -> Freeze:
    """Parts of a model and the share of each that is frozen, all of it where no share is named."""
    found: Freeze = {}
    problems = []
    for written in [] if text is None else text.split(","):
        name, equals, share = (piece.strip() for piece in written.partition("="))
        part = next((known for known in PARTS if known == name), None)
        try:
            value = float(share) if equals else 1.0
        except ValueError:
            value = -1.0
        if part is None:
            problems.append(Problem("--freeze", name, "is no part of a model", nearest(name, PARTS)))
        elif not 0 <= value <= 1:
            rule = "must be a share from 0 to 1"
            problems.append(Problem("--freeze", written, rule, "write it like attention=0.95,feed-forward=0.95"))
        else:
            found[part] = value
    if problems:
        raise WrongInput(problems)
    return found


def _batches(text: str | None) -> tuple[int, ...] | None:
    """`1024`, a list `512,1024`, or a range `1536..4096` in steps of the ends' greatest common divisor."""
    if text is None:
        return None
    flag, problems, ends = "--global-batch", [], []
    low, dots, high = text.partition("..")
    for part in (low, high) if dots else text.split(","):
        try:
            ends.append(_count(flag, part) or 1)
        except WrongInput as wrong:
            problems += [Problem(flag, text, f"{problem.rule}, not {part!r}", _BATCHES) for problem in wrong.problems]
    if problems:
        raise WrongInput(problems)
    if not dots:
        return tuple(sorted(set(ends)))
    first, last = ends
    if first > last:
        raise WrongInput([Problem(flag, text, "runs backwards", f"write {high}..{low}")])
    sizes = range(first, last + 1, gcd(first, last))
    if len(sizes) > MOST_BATCHES:
        rule = f"is {len(sizes):,} batch sizes, one every {gcd(first, last)}; at most {MOST_BATCHES:,} are searched"
        raise WrongInput([Problem(flag, text, rule, "ends with a larger common divisor, or a list like 512,1024")])
    return tuple(sizes)


_BATCHES: Final = "write it like 1024, 512,1024 or 1536..4096"
