"""Seconds of compute kernels by shape; every argument broadcasts, the numbers fitted on devices are in profiles/."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64] | float
BACKWARD_PRODUCTS: Final = 2.5
"""FLOP of fused attention's backward pass over the forward's: five products, two (arXiv 2307.08691 section 4.1)."""


def matmul_seconds(
    m: Values,
    n: Values,
    k: Values,
    batch: Values,
    *,
    peak: Values,
    ceiling: Values,
    ramp_depth: Values,
    bandwidth: Values,
    bandwidth_efficiency: Values,
    element_bytes: Values,
    launch: Values,
) -> Values:
    """Seconds (s) of `batch` products C[m, n] = A[m, k] B[k, n] in one launch.

    t = max(F (1 + k0 / k) / (e P), bytes / (f W)) + t0: F FLOP at `peak` P (FLOP/s) times `ceiling` e (1), slower at
    shallow k by `ramp_depth` k0 (1, the prologue of the inner loop), or operands and result of `element_bytes` (B) once
    over `bandwidth` W (B/s) times `bandwidth_efficiency` f (1), and `launch` t0 (s). Roofline (Williams et al., CACM
    52(4), 2009) with the ramp and launch fitted in profiles/devices; operands are assumed to move once.
    """
    flops = 2.0 * m * n * k * batch
    size = (m * k + k * n + m * n) * batch * element_bytes
    compute = flops * (1 + ramp_depth / k) / (ceiling * peak)
    busy: Values = np.maximum(compute, size / (bandwidth_efficiency * bandwidth))
    return busy + launch


def keys_seen(key_length: Values, window: Values = np.inf) -> Values:
    """Mean keys (1) a query attends to under the causal mask, the sequence being as long as `key_length` (1).

    Position p sees min(p, w) keys; over p uniform in (0, s) the mean is w - w^2 / (2 s) with w = min(`window`, s), so
    s / 2 without a window. Derivation; the halving is FlashAttention-2's count (arXiv 2307.08691 section 4.1).
    """
    limit: Values = np.minimum(window, key_length)
    return limit - limit * limit / (2.0 * key_length)


def attention_flops(
    batch: Values,
    query_length: Values,
    key_length: Values,
    heads: Values,
    head_dim: Values,
    causal: bool,
    window: Values = np.inf,
) -> Values:
    """FLOP of the forward products Q K^T and P V: 4 b q s h d over the pairs the mask leaves, softmax left out.

    Under `causal` a query sees `keys_seen` on average: true of the whole sequence, and of a share of the queries that
    is balanced over it (context parallelism); `window` (1) holds only then. FlashAttention-2 (arXiv 2307.08691)
    section 4.1 counts the same.
    """
    seen = keys_seen(key_length, window) if causal else key_length
    return 4.0 * batch * query_length * seen * heads * head_dim


def attention_seconds(
    flops: Values,
    key_length: Values,
    blocks: Values,
    *,
    peak: Values,
    ceiling: Values,
    ramp_length: Values,
    ramp_blocks: Values,
    launch: Values,
) -> Values:
    """Seconds (s) of one fused attention kernel: t = F (1 + s0 / s) (1 + w0 / w) / (e P) + t0.

    F `flops` (FLOP), P `peak` (FLOP/s), e `ceiling` (1). `ramp_length` s0 (1) over `key_length` s (1) is the start of a
    row of tiles and the half-masked diagonal tiles; `ramp_blocks` w0 (1) over the parallel `blocks` w (1) is the half
    wave of multiprocessors left idle at the end; `launch` t0 (s). Form ours, numbers fitted in profiles/devices
    (rates: FlashAttention-2, arXiv 2307.08691, figures 4 to 7).
    """
    ramps = (1 + ramp_length / key_length) * (1 + ramp_blocks / blocks)
    return flops * ramps / (ceiling * peak) + launch


def memory_seconds(size: Values, bandwidth: Values, efficiency: Values, launch: Values) -> Values:
    """Seconds (s) of a pass that moves `size` (B) at `efficiency` (1) of `bandwidth` (B/s), plus `launch` (s).

    The memory roof of the roofline (Williams et al., CACM 52(4), 2009); nothing moved takes no time at all.
    """
    moved: Values = np.greater(size, 0 * size)
    return (size / (efficiency * bandwidth) + launch) * moved
