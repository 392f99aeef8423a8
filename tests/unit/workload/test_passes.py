"""Memory passes: a fused step never moves more than an eager one, and known counts."""

import pytest

from simtrain.workload import passes


@pytest.mark.parametrize(
    "step",
    [
        lambda fused: passes.norm(2.0, fused),
        lambda fused: passes.residual(2.0, fused, dropout=True),
        lambda fused: passes.activation(2.0, True, fused),
        lambda fused: passes.rotary(2.0, fused),
        lambda fused: passes.softmax(2.0, fused, dropout=False),
        lambda fused: passes.softmax(2.0, fused, dropout=True),
    ],
)
def test_fusing_saves_traffic_and_kernels(step) -> None:
    fused, eager = step(True), step(False)
    assert fused.forward < eager.forward
    assert fused.backward <= eager.backward
    assert fused.kernels < eager.kernels
    assert fused.backward_kernels < eager.backward_kernels


def test_an_eager_norm_takes_the_time_that_a_kernel_saves() -> None:
    """layouts-2023, 65B: the RMSNorm kernel saves 3.0 ms a layer and sequence of 2048 x 8192, 0.9 ms of it fixed.

    At the 1.69 TB/s an A100 sustains that is 210 bytes an element for two norms; counted: within a quarter.
    """
    eager, fused = passes.norm(2.0, False), passes.norm(2.0, True)
    saved = 2 * (eager.forward + eager.backward - fused.forward - fused.backward)
    assert saved == pytest.approx(2.1e-3 * 1.69e12 / (2048 * 8192), rel=0.25)


def test_passes_cover_every_element() -> None:
    work = passes.norm(2.0, True).over(10.0)
    assert (work.size, work.gradient_size) == (40.0, 60.0)
    assert (work.kernels, work.gradient_kernels) == (1, 1)


def test_an_eager_square_has_three_products_in_its_gradient() -> None:
    """PyTorch's pow_backward: a power, its multiple, their product with the gradient, over 4 bytes an element each.

    Beside them 12 bytes for the weight, 24 for the scale, 4 for the mean, 12 for the sum of gradients, 12 for casts.
    """
    assert passes.norm(2.0, False).backward == 12 + 24 + 4 + (8 + 8 + 12) + 12 + 12


def test_halves_of_a_rotation_are_written_into_zeros() -> None:
    """A sum, two products and two halves swapped forward; backward the halves cost two passes and a sum more."""
    eager = passes.rotary(2.0, False)
    assert eager.backward == eager.forward + 2.0 * (2 + 3)


def test_an_eager_softmax_masks_what_was_made_fp32() -> None:
    """Two casts of 6 bytes a score, a mask over 4 read, 4 written and its own; softmax 8, its gradient 12."""
    eager = passes.softmax(2.0, False, dropout=False)
    assert (eager.forward, eager.backward) == (6 + 9 + 8 + 6, 6 + 12 + 9 + 6)
    assert (eager.kernels, eager.backward_kernels) == (4, 4)
