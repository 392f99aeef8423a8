"""Points of a front that are worth telling apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simtrain.search.pareto import thinned


def test_small_steps_are_left_out() -> None:
    assert thinned(np.array([100.0, 99.0, 97.9, 97.0, 50.0]), 0.02).tolist() == [0, 2, 4]


@given(st.lists(st.floats(1, 1e3), min_size=1, max_size=30), st.floats(0.001, 0.5))
def test_nothing_left_out_saves_more(values: list[float], least: float) -> None:
    """Every point is kept or within the share of the one kept before it."""
    falling = np.sort(np.array(values))[::-1]
    kept = thinned(falling, least)
    assert kept[0] == 0
    for row, value in enumerate(falling):
        assert row in kept or value > (1 - least) * falling[kept[kept < row][-1]]
