"""Interval widths from evidence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simtrain.price.uncertainty import relative_width
from simtrain.spec.base import Evidence

SHARES = st.floats(0, 1)


@given(SHARES, SHARES)
def test_the_less_is_measured_the_wider(one: float, other: float) -> None:
    more, less = max(one, other), min(one, other)
    for device in Evidence:
        wide, narrow = relative_width(np.array([less, more]), device)
        assert 0 < narrow <= wide < 1


@given(SHARES)
def test_an_unmeasured_device_is_never_narrower(share: float) -> None:
    widths = {device: float(relative_width(np.array([share]), device)[0]) for device in Evidence}
    assert widths[Evidence.ASSUMED] == max(widths.values())
    assert widths[Evidence.ASSUMED] > min(widths.values()) or share > 0.99


def test_a_fully_measured_step_is_as_sure_as_its_measurements() -> None:
    """Whatever the device: nothing rests on a law."""
    assert len({float(relative_width(np.ones(1), device)[0]) for device in Evidence}) == 1
