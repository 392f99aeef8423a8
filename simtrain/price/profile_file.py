"""The schema of profiles/devices/<device>/meta.toml and profiles/devices/assumed/<architecture>.toml."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from simtrain.spec.base import Compute, Duration, Evidence, Fact, Rate, Spec
from simtrain.spec.hardware import Datatype, LinkKind

Ratio = Annotated[float, Field(gt=0, le=1)]
FusedKernel = Literal["flash-2", "flash-3", "library"]


class Law(Spec):
    """Fields every law's numbers share: where they come from and how far they are off."""

    evidence: Evidence
    source: str
    launch: Duration
    """Device time of an empty launch (t0)."""
    ceiling: Ratio
    """Share of the peak that the largest shapes reach (e)."""
    rows_fitted: NonNegativeInt = 0
    rows_held_out: NonNegativeInt = 0
    median_error: NonNegativeFloat | None = None
    """Of the law on rows it was not fitted on, relative."""
    p90_error: NonNegativeFloat | None = None
    interpolated_median_error: NonNegativeFloat | None = None
    """Of the law corrected by a table that lacks the held-out rows, on those rows."""
    interpolated_p90_error: NonNegativeFloat | None = None


class MatmulNumbers(Law):
    """Numbers of `simtrain.laws.kernels.matmul_seconds` for one number format."""

    ramp_depth: NonNegativeFloat


class AttentionNumbers(Law):
    """Numbers of `simtrain.laws.kernels.attention_seconds` for one kernel, head size and mask."""

    kernel: FusedKernel
    head_dim: PositiveInt
    causal: bool
    ramp_length: NonNegativeFloat
    ramp_blocks: NonNegativeFloat


class Laws(Spec):
    """Numbers by number format, and one entry a kernel, head size and mask."""

    matmul: dict[Datatype, MatmulNumbers] = Field(default_factory=dict)
    attention: tuple[AttentionNumbers, ...] = ()


class Fit(Spec):
    """How the numbers under `law` were made."""

    command: str
    date: str


class Reference(Spec):
    """Data-sheet values the measured device's law numbers are shares of."""

    peak: dict[Datatype, Compute]
    memory_bandwidth: Rate


class Table(Spec):
    """A CSV file beside meta.toml."""

    source: str
    licence: str
    measured: str
    """How, and what the columns mean."""
    rows: NonNegativeInt


class MemoryNumbers(Spec):
    """Memory-bound passes."""

    efficiency: Fact[Ratio]
    launch: Fact[Duration]


class MatmulRatios(Spec):
    """Rates relative to the forward matrix multiply of the same shape."""

    backward_input: Fact[Ratio]
    backward_weight: Fact[Ratio]
    speedup: dict[Datatype, Fact[Annotated[float, Field(gt=1)]]] = Field(default_factory=dict)
    """Rate of narrower products over bf16 ones of the same shape, operands already quantised. A format listed here is
    priced by the bf16 rows: tables of narrow products are of inference kernels that quantise as they go."""


class AttentionChoice(Spec):
    """Which measurements price fused attention."""

    training: str | None = None
    """Folder whose attention_training.csv holds for this device."""
    backward_rate: dict[FusedKernel, Fact[Ratio]]
    """FLOP/s of the backward pass over the forward pass's."""


class MeasuredLinks(Spec):
    """The links a measured curve holds for."""

    kind: LinkKind
    bandwidth: Rate
    multicast: bool


class ProfileFile(Spec):
    """One profile: what was measured, the ratios read from papers, the numbers of the laws."""

    name: str
    evidence: Evidence
    source: str
    reference: Reference | None = None
    tables: dict[str, Table] = Field(default_factory=dict)
    links: MeasuredLinks | None = None
    """What collective.csv of a profile of one's own was measured on; shipped ones: profiles/collectives."""
    memory: MemoryNumbers
    matmul: MatmulRatios
    attention: AttentionChoice
    assumed: Laws = Laws()
    """Numbers nothing here was fitted on."""
    fit: Fit | None = None
    law: Laws = Laws()
    """Written by `python -m simtrain.validation.kernel_fit`."""
