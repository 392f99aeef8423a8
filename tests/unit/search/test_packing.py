"""Static placements: never overlapping, never below what lives, as low as the exact program on small cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.search.packing import Packing, exactly_packed, packed
from simtrain.timeline.footprint import Held, footprint
from simtrain.timeline.lifetimes import Lifetimes, lifetimes
from simtrain.timeline.schedules import one_f_one_b
from simtrain.timeline.schedules.drawn import drawn
from simtrain.timeline.schedules.pace import Pace

BLOCKS = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 12), st.integers(1, 8)), min_size=1, max_size=7)


def of(blocks: list[tuple[int, int, int]]) -> Lifetimes:
    size, birth, span = (np.array(part) for part in zip(*blocks, strict=True))
    return Lifetimes(size.astype(float), birth, birth + span)


def apart(blocks: Lifetimes, found: Packing) -> bool:
    """No two blocks that live at once share a byte."""
    low, high = found.offset, found.offset + blocks.size
    at_once = (blocks.birth[:, None] < blocks.death) & (blocks.death[:, None] > blocks.birth)
    overlap = (low[:, None] < high - 1e-6) & (high[:, None] > low + 1e-6)
    return not (at_once & overlap & ~np.eye(len(low), dtype=bool)).any()


@settings(max_examples=60)
@given(BLOCKS)
def test_best_fit_against_the_exact_program(drawn: list[tuple[int, int, int]]) -> None:
    blocks = of(drawn)
    fit, exact = packed(blocks), exactly_packed(blocks)
    assert apart(blocks, fit)
    assert apart(blocks, exact)
    assert blocks.live - 1e-6 <= exact.height <= fit.height + 1e-6
    assert fit.height <= 1.5 * exact.height


def test_a_case_no_placement_makes_tight() -> None:
    """Blocks that leave a hole too small for what comes: what an allocator loses, and a plan does not."""
    blocks = of([(4, 0, 2), (2, 0, 6), (6, 3, 3)])
    assert blocks.live == 8
    assert packed(blocks).height == exactly_packed(blocks).height == pytest.approx(8)
    in_order = Packing(np.array([0.0, 4.0, 6.0]), 12.0)
    assert apart(blocks, in_order)


@pytest.mark.parametrize("layers", [1, 5])
def test_lifetimes_of_a_stage_hold_what_the_footprint_says(layers: int) -> None:
    """At the peak of 1F1B: all in flight but what the last layer's backward pass has freed."""
    order = one_f_one_b.order(4, 1, 8)
    held = Held(
        resident=np.zeros((1, 4)),
        activations=np.full((4, 1), 10.0 * layers),
        waiting=np.zeros((4, 1)),
        logits=np.array([0.0, 0.0, 0.0, 7.0]),
        working=np.full(4, 3.0),
    )
    for stage in range(4):
        blocks = lifetimes(order, held, stage, layers)
        whole = float(footprint(order, held).total[stage].max())
        assert blocks.live <= whole + 1e-9
        assert blocks.live >= whole - 7.0 * (stage == 3) - 10.0
        assert packed(blocks).height == pytest.approx(blocks.live)


def test_what_weight_gradients_wait_with_lives_until_their_pass() -> None:
    order = drawn("zb-1p", 4, 1, 8, Pace(1.0, 1.0, 1.0, 0.0, 0.5))
    whole = Held(np.zeros((1, 4)), np.full((4, 1), 10.0), np.full((4, 1), 5.0), np.zeros(4), np.zeros(4))
    blocks = lifetimes(order, whole, 0, 1)
    assert set(blocks.size.tolist()) == {5.0}
    assert blocks.live <= float(footprint(order, whole).total[0].max()) + 1e-9
