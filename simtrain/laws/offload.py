"""What a link must carry so that computing does not wait for data kept elsewhere.

ZeRO-Infinity (arXiv 2104.07857), its bandwidth requirements. The formulas are recalled and give the paper's figures;
its equation numbers were not checked.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def efficiency(intensity: ArrayLike, bandwidth: ArrayLike, peak: float) -> NDArray[np.float64]:
    """Share of the `peak` rate (FLOP/s) that is reached (arXiv 2104.07857).

    `intensity`: FLOP a byte moved over a link of `bandwidth` (B/s); nothing overlaps.
    """
    reached = np.asarray(intensity, float) * np.asarray(bandwidth, float)
    return np.asarray(reached / (reached + peak))


def needed_bandwidth(intensity: ArrayLike, share: ArrayLike, peak: float) -> NDArray[np.float64]:
    """Bandwidth (B/s) at which a share (1) of the `peak` rate (FLOP/s) is reached, by arXiv 2104.07857: `efficiency`
    solved for it."""
    wanted = np.asarray(share, float)
    return np.asarray(wanted / (1 - wanted) * peak / np.asarray(intensity, float))


def state_intensity(sequence: ArrayLike, batch: ArrayLike) -> NDArray[np.float64]:
    """FLOP a byte of weights and gradients: sequence x batch of one device, fp16 (arXiv 2104.07857)."""
    return np.asarray(np.asarray(sequence, float) * np.asarray(batch, float), dtype=float)


def optimizer_intensity(sequence: ArrayLike, batch: ArrayLike) -> NDArray[np.float64]:
    """FLOP a byte of optimizer states: a quarter of that of weights (arXiv 2104.07857)."""
    return np.asarray(state_intensity(sequence, batch) / 4, dtype=float)


def activation_intensity(hidden: ArrayLike, interval: ArrayLike) -> NDArray[np.float64]:
    """FLOP a byte of activations kept every `interval` layers of width `hidden`: 24 x hidden x interval, fp16 (arXiv
    2104.07857)."""
    return np.asarray(24 * np.asarray(hidden, float) * np.asarray(interval, float), dtype=float)
