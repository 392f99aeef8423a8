"""Memory traffic of element-wise operations, fused into one kernel or eager: a kernel for every step.

Counts are derivations: each kernel reads its operands and writes its result once, `width` bytes an activation; eager
code computes norms and softmax in fp32, as PyTorch's documentation of mixed precision asks (torch.amp, "ops that
autocast to float32").
"""

from dataclasses import dataclass

from simtrain.workload.op import Elementwise, Values

SINGLE = 4.0
"""Bytes of an fp32 element."""


@dataclass(frozen=True)
class Passes:
    """Bytes (B) moved for each element, and kernels, of the forward and of the backward pass."""

    forward: float
    backward: float
    kernels: int = 1
    backward_kernels: int = 1

    def over(self, elements: Values) -> Elementwise:
        """These passes over a tensor of that many elements."""
        return Elementwise(elements * self.forward, elements * self.backward, self.kernels, self.backward_kernels)


def norm(width: float, fused: bool) -> Passes:
    """RMSNorm. Eager: cast, square, mean, scale, cast, weight; backward the products' two gradients each, and casts.

    The gradient of the square is three products: PyTorch takes a power, scales it and multiplies (pow_backward).
    """
    if fused:
        return Passes(2 * width, 3 * width)
    forward = (width + SINGLE) + 2 * SINGLE + SINGLE + 2 * SINGLE + (SINGLE + width) + 2 * width
    weight = 6 * width
    scale = 6 * SINGLE
    mean = SINGLE
    square = 2 * SINGLE + 2 * SINGLE + 3 * SINGLE
    accumulated = 3 * SINGLE
    return Passes(forward, weight + 2 * (width + SINGLE) + scale + mean + square + accumulated, 7, 15)


def residual(width: float, fused: bool, dropout: bool) -> Passes:
    """Sum with the residual stream, after bias and dropout where there is any; its mask is a byte an element."""
    mask = 1.0 if dropout else 0.0
    if fused or not dropout:
        return Passes(3 * width + mask, 2 * width + mask)
    return Passes(7 * width + mask, 2 * width + mask, 3, 2)


def activation(width: float, gated: bool, fused: bool) -> Passes:
    """For each element of the result, GELU or SiLU times the up projection; that eager: two kernels, three backward."""
    if not gated:
        return Passes(2 * width, 3 * width)
    return Passes(3 * width, 5 * width) if fused else Passes(5 * width, 9 * width, 2, 3)


def rotary(width: float, fused: bool) -> Passes:
    """Rotary embedding, for each element of queries and keys; eager: two products, half swapped and negated, a sum.

    Backward a half's gradient is written into zeros of the whole, and both are added (PyTorch's slice_backward).
    """
    if fused:
        return Passes(2 * width, 2 * width)
    products, negated, halves, sums = 4 * width, width, 4 * width, 6 * width
    return Passes(10 * width, products + negated + halves + sums, 5, 9)


def softmax(width: float, fused: bool, dropout: bool) -> Passes:
    """Masked softmax of the scores, and dropout; eager: cast to fp32, masked in place, softmax, cast back.

    The order is that of NVIDIA/Megatron-LM megatron/model/fused_softmax.py, forward_torch_softmax, and of
    Aleph-Alpha/scaling src/scaling/core/nn/masked_softmax/masked_softmax.py; the scale rides on the product before.
    """
    dropped, masked = (2 * width + 1, 1) if dropout else (0.0, 0)
    if fused:
        return Passes(2 * width + dropped, 3 * width + dropped)
    cast, filled = width + SINGLE, 2 * SINGLE + 1
    forward = cast + filled + 2 * SINGLE + cast
    backward = cast + 3 * SINGLE + filled + cast
    return Passes(forward + dropped, backward + dropped, 4 + masked, 4 + masked)
