"""Seconds of compute kernels on a profiled device: the law, corrected by measured tables where there are rows.

Sizes broadcast together and may be arrays of any shape; each call prices all of them at once.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simtrain.laws.kernels import BACKWARD_PRODUCTS, memory_seconds
from simtrain.price.correction import Correction
from simtrain.price.profile import Profile
from simtrain.price.tables import library_coordinates, matmul_coordinates
from simtrain.price.timed import Timed

Array = NDArray[np.float64]
UNALIGNED_RATE: Final = 0.33
"""Rate of a 16-bit product whose rows do not start at whole 16 bytes: vTrain's runs (arXiv 2312.12391) with an unpadded
vocabulary of 50257 spend 3.8 ms on 0.316 TFLOP of head, 83 TFLOP/s of the 250 that a padded one reaches."""
GROUPED_OVERLAP: Final = 0.5
"""Share of the shorter of an expert's product and its own traffic that hides behind the longer: of zero, quarters and
one it leaves the least scatter in Transformer Engine's grouped products on B200 and A100 with 128 to 9,832 tokens an
expert (MooreThreads/SimuMax configs/system/b200_bf16_ceperm.json and a100_pcie.json, group_matmul)."""
BEYOND: Final = 1.0
"""How far outside a table (log2 of the shape) its edge still counts as measured."""


def matmul(
    profile: Profile,
    datatype: str,
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    batch: ArrayLike = 1,
    queued: bool = False,
    operand: str = "forward",
) -> Timed:
    """Forward product C[m, n] = A[m, k] B[k, n], `batch` of them in one launch (sizes 1).

    Inside the table the measured row, or log-linear in log2 of the shape between rows; outside, the edge's correction
    on the law. Tables were timed a kernel at a time; `queued` behind others a kernel follows after the device's own
    start only, which takes the place of the tables' launch. `operand`: "input" or "weight" asks for the layout of a
    gradient's product, where it was measured. WrongInput where the device has no such format.
    """
    m, n, k, batch = np.broadcast_arrays(*_floats(m, n, k, batch))
    law = profile.matmul_law(datatype)
    launch = min(profile.memory_launch, law.numbers.launch) if queued else None
    seconds = law.seconds(m, n, k, batch, launch)
    return _corrected(seconds, law.operands.get(operand, law.correction), matmul_coordinates(m * batch, n, k))


def grouped_matmul(
    profile: Profile,
    datatype: str,
    tokens_per_expert: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    experts: ArrayLike,
    moved: ArrayLike = 0.0,
    beside: float = GROUPED_OVERLAP,
) -> Timed:
    """One product an expert over its tokens, several at once behind other kernels (sizes 1).

    Each costs what one of its shape does, and `moved` bytes (B) that no other product shares: the weights of its expert
    or their accumulated gradient; the share `beside` of the shorter of both hides. Never counted as measured, because
    the tables of grouped kernels are of untuned inference kernels (meta.toml of each device).
    """
    one = matmul(profile, datatype, tokens_per_expert, n, k, queued=True)
    alone = memory_seconds(np.asarray(moved, float), profile.bandwidth, profile.memory_efficiency, 0.0)
    longer, shorter = np.maximum(one.seconds, alone), np.minimum(one.seconds, alone)
    seconds = (longer + (1 - beside) * shorter) * np.asarray(experts, float)
    return Timed(seconds, np.zeros_like(seconds))


def attention_forward(
    profile: Profile,
    kernel: str,
    batch: ArrayLike,
    query_length: ArrayLike,
    key_length: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    causal: bool = True,
) -> Timed:
    """Forward pass of the fused `kernel` that `attention_kernel` names (sizes 1).

    Under `causal` a query sees half of `key_length` on average: give twice the keys seen under a sliding window.
    WrongInput where the device has no such kernel.
    """
    sizes = _floats(batch, query_length, key_length, heads, kv_heads, head_dim)
    batch, query, key, heads, kv_heads, head_dim = np.broadcast_arrays(*sizes)
    law = profile.attention_law(kernel, causal)
    at = library_coordinates(head_dim, key, batch, heads, kv_heads)
    return _corrected(law.seconds(batch, query, key, heads, head_dim), law.correction, at)


def attention_backward(
    profile: Profile,
    kernel: str,
    batch: ArrayLike,
    query_length: ArrayLike,
    key_length: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    causal: bool = True,
) -> Timed:
    """Backward pass: 2.5 times the forward FLOP at the kernel's ratio of rates; arguments as `attention_forward`.

    Measured only where both passes were timed together; a ratio on a measured forward pass is a law.
    """
    forward = attention_forward(profile, kernel, batch, query_length, key_length, heads, kv_heads, head_dim, causal)
    law = profile.attention_law(kernel, causal)
    if law.backward is not None:
        batch, query, key, heads, kv_heads, head_dim = np.broadcast_arrays(
            *_floats(batch, query_length, key_length, heads, kv_heads, head_dim)
        )
        by_law = law.seconds(batch, query, key, heads, head_dim) * BACKWARD_PRODUCTS
        return _corrected(by_law, law.backward, library_coordinates(head_dim, key, batch, heads, kv_heads))
    launch = law.at("launch", np.asarray(head_dim, float))
    seconds = (forward.seconds - launch) * BACKWARD_PRODUCTS / law.backward_rate + launch
    return Timed(seconds, forward.measured * law.backward_measured)


def memory_bound(profile: Profile, size: ArrayLike, kernels: ArrayLike = 1) -> Timed:
    """`kernels` that move `size` bytes in all at the HBM bandwidth the device achieves; nothing moved takes no time."""
    launches = profile.memory_launch * np.asarray(kernels, float)
    seconds = memory_seconds(np.asarray(size, float), profile.bandwidth, profile.memory_efficiency, launches)
    return Timed(np.asarray(seconds), np.zeros(np.shape(seconds)))


def _floats(*sizes: ArrayLike) -> list[Array]:
    return [np.asarray(size, float) for size in sizes]


def _corrected(seconds: Array, correction: Correction | None, coordinates: dict[str, Array]) -> Timed:
    if correction is None:
        return Timed(seconds, np.zeros_like(seconds))
    factor, outside = correction.at(coordinates)
    return Timed(seconds * factor, (outside <= BEYOND).astype(float))
