"""Measured kernel tables as columns, and the coordinates their corrections are interpolated over."""

import csv
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simtrain.laws.kernels import BACKWARD_PRODUCTS, attention_flops

Array = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
TILE: Final = 128
"""Query rows of one parallel block (FlashAttention-2, arXiv 2307.08691 section 3.3)."""
_TEXT: Final = ("name", "collective", "dtype", "operand", "routing", "kernel", "pass", "causal")


def columns(path: Path) -> Columns:
    """A CSV file as arrays by column name; numbers as floats."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows], dtype=str if name in _TEXT else float) for name in rows[0]}


def where(table: Columns, rows: NDArray[np.bool_]) -> Columns:
    """The rows of a mask."""
    return {name: values[rows] for name, values in table.items()}


def operand_of(matmuls: Columns) -> dict[str, Columns]:
    """Rows by the product of a layer's training they are the layout of; all "forward" where the table does not say."""
    if "operand" not in matmuls:
        return {"forward": matmuls}
    return {str(name): where(matmuls, matmuls["operand"] == name) for name in np.unique(matmuls["operand"])}


def matmul_coordinates(m: Array, n: Array, k: Array) -> dict[str, Array]:
    """Log2 of a product's shape; a batch counts as further rows of m."""
    return {"m": np.log2(m), "n": np.log2(n), "k": np.log2(k)}


def training_coordinates(head_dim: Array, key_length: Array) -> dict[str, Array]:
    """Log2 of what the published training benchmarks vary."""
    return {"head_dim": np.log2(head_dim), "key": np.log2(key_length)}


def library_coordinates(
    head_dim: Array, key_length: Array, batch: Array, heads: Array, kv_heads: Array
) -> dict[str, Array]:
    """Log2 of what the inference-library tables vary: also query heads a key head serves, and independent heads."""
    sharing, independent = np.log2(heads / kv_heads), np.log2(batch * heads)
    return training_coordinates(head_dim, key_length) | {"sharing": sharing, "independent": independent}


def library_cells(table: Columns) -> dict[str, Array]:
    """Coordinates of the table's rows, the last two rounded so that the cells are well filled."""
    at = library_coordinates(*(table[name] for name in ("head_dim", "seq", "batch", "heads", "kv_heads")))
    return at | {"sharing": np.round(at["sharing"]), "independent": np.round(at["independent"])}


def forward_seconds(training: Columns, launch: float, backward_rate: float) -> Array:
    """Seconds (s) of the forward kernel in published rates; a rate of both passes is split at `backward_rate` (1).

    With x forward FLOP seconds: both = x + launch + 2.5 x / backward_rate + launch.
    """
    batch, length, heads, head_dim = (training[name] for name in ("batch", "seq", "heads", "head_dim"))
    pairs = np.where(training["causal"] == "true", 0.5, 1.0)
    flops = attention_flops(batch, length, length, heads, head_dim, causal=False) * pairs
    both = training["pass"] == "both"
    seconds = flops * np.where(both, 1 + BACKWARD_PRODUCTS, 1.0) / training["flop_per_s"]
    split = (seconds - 2 * launch) / (1 + BACKWARD_PRODUCTS / backward_rate) + launch
    return np.where(both, split, seconds)
