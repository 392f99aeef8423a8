"""Clocks under a power limit."""

import pytest
from jobs import job

from simtrain.estimate import machine
from simtrain.laws.power import capped_clock


def test_dynamic_power_goes_with_the_cube_of_the_clock() -> None:
    clock = capped_clock(limit=500.0, reference=700.0, idle=130.0)
    assert 130 + (700 - 130) * clock**3 == pytest.approx(500)
    assert capped_clock(700.0, 700.0, 130.0) == 1
    assert capped_clock(900.0, 700.0, 130.0) == 1


@pytest.mark.parametrize(("cluster", "clock"), [("dgx-h100", 1.0), ("grand-teton-h100", (370 / 570) ** (1 / 3))])
def test_a_device_below_the_power_of_its_profile_is_slower(cluster: str, clock: float) -> None:
    assert machine(job("llama-3-8b", cluster, 8)).clock == pytest.approx(clock)
