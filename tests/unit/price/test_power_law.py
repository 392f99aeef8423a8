"""The power law that is used is the one that was fitted."""

import numpy as np
import pytest

from simtrain.price.categories import CATEGORIES
from simtrain.price.power_law import law_curve
from simtrain.price.power_profile import power_profile, shipped
from simtrain.spec.load import device

ERROR = 0.03
"""Mean error of power over all clocks of a profile; 1.7 to 1.9 % as measured here."""


@pytest.mark.parametrize("name", sorted(shipped()))
def test_power_is_that_of_the_measured_profiles(name: str) -> None:
    """Of matmuls, measured power held to the data sheet's limit, at every clock the law has."""
    described = device(shipped()[name].device)
    law = law_curve(described, np.eye(len(CATEGORIES))[CATEGORIES.index("matmul")])
    watts = law.joules / law.seconds
    off = []
    for curve in (curve for stage in power_profile(name).curves for curve in stage):
        there = curve.take(curve.clock >= law.clock.min())
        measured = np.minimum(there.joules / there.seconds, described.power_limit.value)
        off.append(np.interp(there.clock, law.clock[::-1], watts[::-1]) / measured - 1)
    errors = np.concatenate(off)
    assert np.abs(errors).mean() < ERROR
    assert abs(errors.mean()) < ERROR


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "a40"])
def test_a_throttled_clock_is_neither_faster_nor_thirstier(name: str) -> None:
    described = device(name)
    curve = law_curve(described, np.full(len(CATEGORIES), 0.1))
    working = law_curve(described, np.eye(len(CATEGORIES))[CATEGORIES.index("matmul")])
    held = working.joules / working.seconds >= described.power_limit.value * (1 - 1e-9)
    assert 1 < held.sum() < len(held)
    assert held[: held.sum()].all()
    np.testing.assert_allclose(curve.seconds[held], 0.1 * len(CATEGORIES))
    assert (np.diff(curve.seconds[~held]) > 0).all()
    assert (np.diff(curve.joules[~held] / curve.seconds[~held]) < 0).all()
