"""What each source of published runs ran on and with, as data: validate/published/setup.toml."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, NonNegativeInt, PositiveInt

from simtrain.spec.base import Spec, checked
from simtrain.spec.hardware import Checks
from simtrain.spec.library import path_of, read_toml
from simtrain.spec.stack import AttentionKernel, Bytes, Dispatcher, Fraction, Selective
from simtrain.validation.corpus import PUBLISHED, Row

T = TypeVar("T")


class Choice(Spec, Generic[T]):
    """A setting and why it is so."""

    value: T
    reason: str


class StackOf(Spec):
    """The stack of the rows whose software column starts with `software`."""

    software: str
    stack: str
    gpus: tuple[str, ...] = ()
    """Devices it holds for; none: all."""
    reason: str


class Recipe(Spec):
    """What a source's recipe of a model says that neither rows nor models.json have a place for."""

    prediction_modules: NonNegativeInt = 0
    """Modules that predict further (spec.model.Model)."""
    optimizer: str = "adamw"
    reason: str = "as most recipes"


class Variant(Spec):
    """Options of a run that its table has no column for: what tells that it has them, and what they change in the
    stack."""

    notes: str = ""
    """Occurs in the notes in lower case."""
    stages: Literal["one"] | None = None
    """Holds for runs without a pipeline only."""
    software: tuple[str, ...] = ()
    """How the software of its runs starts; none: any."""
    gpus: tuple[str, ...] = ()
    """Devices it holds for; none: all."""
    fused_elementwise: bool | None = None
    fused_norm: bool | None = None
    tensor_overlap: Fraction | None = None
    dispatcher: Dispatcher | None = None
    exchange_overlap: Fraction | None = None
    """Of expert messages between scale-up domains."""
    expanded_kept: Bytes | None = None
    """Bytes of spec.stack.Kept.expanded."""
    selective: tuple[Selective, ...] | None = None
    """What selective recomputation rebuilds, as spec.stack.Stack.selective."""
    reason: str

    def holds(self, row: Row) -> bool:
        """Whether a run has these options."""
        single = self.stages is None or (row.pp or 1) == 1
        named = not self.software or row.software.startswith(self.software)
        return single and named and (not self.gpus or row.gpu in self.gpus) and self.notes in row.notes.lower()


class Source(Spec):
    """How one source's rows are read where the row itself says nothing."""

    stack: Choice[str]
    stacks: tuple[StackOf, ...] = ()
    """Tried in order before `stack`."""
    variants: tuple[Variant, ...] = ()
    clusters: dict[str, Choice[str]] = Field(default={})
    """Cluster by GPU; others as in the file's own [clusters]."""
    precisions: dict[str, Choice[str]] = Field(default={})
    """Number formats by the precision_detail or the precision column; others as in the file's own [precisions]."""
    recompute: Choice[Literal["none", "selective", "full"]]
    """What an unknown recompute means."""
    micro_batch: Choice[PositiveInt]
    layers_a_chunk: Choice[PositiveInt]
    """Layers of a virtual stage where the schedule is interleaved and vpp is not stated."""
    unstated_chunks: Choice[Literal["one", "most"]]
    """What an empty vpp means in a pipeline that is not called interleaved: one chunk a stage, or as `layers_a_chunk`
    says where there are whole rounds of microbatches."""
    zero: Choice[Annotated[NonNegativeInt, Field(le=3)]]
    sequence_parallel: Choice[bool]
    """Whether ranks of a tensor group split the sequence where the row does not say."""
    expert_tensor: Choice[Literal["tensor degree", "one"]]
    """What an empty etp means."""
    vocabulary: Choice[PositiveInt] | None = None
    """Of the source's models, where it prints none and models.json assumes one."""
    recipes: dict[str, Recipe] = Field(default={})
    """Of its models, by how their names start."""
    adapter_rank: Choice[PositiveInt]
    """Rank of the adapters of a `lora` run."""
    checks: Checks | None = None
    """What comparing calls costs in those of the source's runs whose measured network shows that ranks did."""
    memory: Choice[Literal["allocated", "reserved", "device"]]
    """What the memory figure counts: allocated tensors, the allocator's blocks, everything on the device."""
    memory_of: Choice[Literal["fullest stage", "first stage"]]
    """Whose memory the figure is: the most of all ranks, or what rank 0 reports of itself."""


class Kernel(Spec):
    """What a word of the attention_kernel column changes in a stack."""

    attention_kernel: AttentionKernel
    keep_fused: bool = False
    """A stack that has a fused kernel already keeps it."""
    fused_norm: bool | None = None
    kept: dict[Literal["norm", "attention", "scores"], Bytes] = Field(default={})
    """Bytes it keeps besides (spec.stack.Kept)."""
    reason: str


class Setup(Spec):
    """The whole file."""

    default: Source
    sources: dict[str, Source]
    software: tuple[StackOf, ...]
    """Stacks of sources not listed, by a word in their software column, tried in order."""
    clusters: dict[str, Choice[str]]
    precisions: dict[str, Choice[str]]
    attention_kernels: dict[str, Kernel]

    def source(self, row: Row) -> Source:
        """The settings of a row's source; those of [default] where it is not listed."""
        return self.sources.get(row.source, self.default)

    def stack(self, row: Row) -> str:
        """Name of the stack that describes a row's software."""
        if row.source not in self.sources:
            words = row.software.lower()
            return next((s.stack for s in self.software if s.software in words), self.default.stack.value)
        source = self.sources[row.source]
        chosen = (
            s.stack for s in source.stacks if row.software.startswith(s.software) and (not s.gpus or row.gpu in s.gpus)
        )
        return next(chosen, source.stack.value)

    def variants(self, row: Row) -> tuple[Variant, ...]:
        """The variants of its source's stack that a row has."""
        return tuple(variant for variant in self.source(row).variants if variant.holds(row))

    def recipe(self, row: Row) -> Recipe:
        """The recipe of a row's model."""
        found = self.source(row).recipes.items()
        return next((recipe for name, recipe in found if row.model.startswith(name)), Recipe())

    def kernel(self, words: str) -> Kernel | None:
        """What a row's attention_kernel changes: its own entry, else that of `flash` if it names one; None: unknown."""
        return self.attention_kernels.get(words) or (self.attention_kernels["flash"] if "flash" in words else None)

    def cluster(self, row: Row) -> str | None:
        """Name of the cluster a row ran on; None: its GPU has none."""
        choice = self.source(row).clusters.get(row.gpu) or self.clusters.get(row.gpu)
        return None if choice is None else choice.value

    def precision(self, row: Row) -> str | None:
        """Name of a row's number formats; None: not expressed."""
        own = self.source(row).precisions
        choice = own.get(row.precision_detail) or own.get(row.precision) or self.precisions.get(row.precision)
        return None if choice is None else choice.value


@functools.cache
def setup() -> Setup:
    """The shipped settings; a source inherits from [default] what it does not state."""
    data = read_toml(path_of(PUBLISHED, "setup.toml"))
    default: Mapping[str, Any] = data.get("default", {})
    sources = {name: {**default, **stated} for name, stated in data.get("sources", {}).items()}
    return checked(Setup, data | {"sources": sources}, "setup.toml")


def peers() -> list[dict[str, Any]]:
    """Other simulators and what they reach by source, as in peers.toml beside the runs."""
    found: list[dict[str, Any]] = read_toml(path_of(PUBLISHED, "peers.toml"))["peer"]
    return found
