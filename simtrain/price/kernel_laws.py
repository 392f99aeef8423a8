"""The laws of kernels with a device's numbers in them, and what its measured tables say beyond them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.kernels import BACKWARD_PRODUCTS, attention_flops, attention_seconds, matmul_seconds
from simtrain.price.correction import Correction
from simtrain.price.profile_file import AttentionNumbers, MatmulNumbers
from simtrain.price.tables import (
    TILE,
    forward_seconds,
    library_cells,
    matmul_coordinates,
    training_coordinates,
    where,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MatmulLaw:
    """Matrix multiplies of one number format on one device."""

    numbers: MatmulNumbers
    peak: float
    bandwidth: float
    bandwidth_efficiency: float
    element_bytes: float
    correction: Correction | None = None
    operands: Mapping[str, Correction] = field(default_factory=lambda: MappingProxyType({}))
    """Of products that give gradients ("input", "weight"), where they were measured in their own layout."""

    def seconds(self, m: Array, n: Array, k: Array, batch: Array | float = 1.0, launch: float | None = None) -> Array:
        """Seconds by the law alone; `launch` replaces that of the tables, which were timed a kernel at a time."""
        return np.asarray(
            matmul_seconds(
                m,
                n,
                k,
                batch,
                peak=self.peak,
                ceiling=self.numbers.ceiling,
                ramp_depth=self.numbers.ramp_depth,
                bandwidth=self.bandwidth,
                bandwidth_efficiency=self.bandwidth_efficiency,
                element_bytes=self.element_bytes,
                launch=self.numbers.launch if launch is None else launch,
            )
        )


@dataclass(frozen=True)
class AttentionLaw:
    """Forward pass of one fused kernel under one mask on one device; numbers interpolated over head sizes."""

    numbers: tuple[AttentionNumbers, ...]
    """One a head size, ascending."""
    peak: float
    backward_rate: float
    backward_measured: bool = False
    """Whether both passes together were measured, so that only their split rests on `backward_rate`."""
    correction: Correction | None = None
    backward: Correction | None = None
    """Of the backward pass, where it was measured by itself; None: its forward pass's holds."""

    def at(self, field: str, head_dim: Array) -> Array:
        """One of the law's numbers at a head size."""
        known = [np.log2(entry.head_dim) for entry in self.numbers]
        values = [float(getattr(entry, field)) for entry in self.numbers]
        return np.asarray(np.interp(np.log2(head_dim), known, values))

    def seconds(self, batch: Array, query: Array, key: Array, heads: Array, head_dim: Array) -> Array:
        """Seconds by the law alone."""
        flops = attention_flops(batch, query, key, heads, head_dim, self.numbers[0].causal)
        blocks = batch * heads * query / TILE
        fields = ("ceiling", "ramp_length", "ramp_blocks", "launch")
        return np.asarray(
            attention_seconds(flops, key, blocks, peak=self.peak, **{name: self.at(name, head_dim) for name in fields})
        )


def narrower(wide: MatmulLaw, speedup: float, peak: float, element_bytes: float) -> MatmulLaw:
    """The law of products `speedup` times as fast as the `wide` ones of the same shape."""
    ceiling = wide.numbers.ceiling * wide.peak * speedup / peak
    numbers = wide.numbers.model_copy(update={"ceiling": ceiling})
    return replace(wide, numbers=numbers, peak=peak, element_bytes=element_bytes)


def matmul_correction(law: MatmulLaw, table: dict[str, Array]) -> Correction:
    """What the measured rows say beyond the law of the device they were measured on."""
    m, n, k = (table[name] for name in "mnk")
    return Correction.of(matmul_coordinates(m, n, k), np.log(table["time_s"] / law.seconds(m, n, k)))


def library_correction(law: AttentionLaw, table: dict[str, Array]) -> Correction:
    """What an inference library's rows say beyond the law fitted on them."""
    batch, length, heads, head_dim = (table[name] for name in ("batch", "seq", "heads", "head_dim"))
    return Correction.of(
        library_cells(table), np.log(table["time_s"] / law.seconds(batch, length, length, heads, head_dim))
    )


def backward_correction(law: AttentionLaw, table: dict[str, Array]) -> Correction | None:
    """What the rows' backward passes say beyond the law's; None where the table has none."""
    if "backward_s" not in table:
        return None
    batch, length, heads, head_dim = (table[name] for name in ("batch", "seq", "heads", "head_dim"))
    by_law = law.seconds(batch, length, length, heads, head_dim) * BACKWARD_PRODUCTS
    return Correction.of(library_cells(table), np.log(table["backward_s"] / by_law))


def training_rows(table: dict[str, Array], kernel: str, causal: bool) -> dict[str, Array]:
    """Published rows of a kernel and mask that hold its forward pass: alone, or with the backward pass."""
    same = (table["kernel"] == kernel) & (table["causal"] == str(causal).lower()) & (table["pass"] != "backward")
    return where(table, same)


def training_correction(law: AttentionLaw, table: dict[str, Array]) -> Correction:
    """What published training rates say beyond the law fitted on them."""
    batch, length, heads, head_dim = (table[name] for name in ("batch", "seq", "heads", "head_dim"))
    launch = law.numbers[0].launch
    seconds = forward_seconds(table, launch, law.backward_rate)
    by_law = law.seconds(batch, length, length, heads, head_dim)
    return Correction.of(training_coordinates(head_dim, length), np.log(seconds / by_law))
