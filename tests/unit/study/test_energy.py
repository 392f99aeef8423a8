"""A plan's energy: measured profiles where they are, bounds, late clocks, waiting for stragglers."""

import numpy as np
import pytest

from simtrain.errors import WrongInput
from simtrain.price.power_law import law_curve
from simtrain.search.clocks import with_switches
from simtrain.spec.load import device
from simtrain.spec.plan import Plan
from simtrain.spec.request import Request
from simtrain.study.energy import EnergyPlan, energy_plan
from simtrain.study.shift import cleanest_start


@pytest.fixture(scope="module")
def found() -> EnergyPlan:
    job = Request(model="gpt-3-175b", cluster="dgx-a100", gpus="64", seq="2048", global_batch="12").job()
    return energy_plan(job, Plan(tp=8, sp=True, pp=8, dp=1, global_batch=12, recompute="selective"))


def test_the_models_own_profile_is_used(found: EnergyPlan) -> None:
    assert found.profile is not None
    assert found.profile.name == "gpt-3-175b-a100-sxm-80gb"


def test_nothing_is_lost_at_the_step_of_largest_clocks(found: EnergyPlan) -> None:
    assert found.deadline == found.base.seconds
    assert found.chosen.point.seconds <= found.base.seconds * (1 + 1e-6)
    assert 0.05 < found.saved(found.chosen) < 0.3
    assert found.few.switches <= found.chosen.switches
    assert found.steady.switches == 0
    for setting in (found.chosen, found.few, found.steady):
        assert setting.gap >= -1e-9


def test_clocks_that_come_at_once_change_nothing(found: EnergyPlan) -> None:
    on, choice = found.chosen.on, found.chosen.point.choice
    np.testing.assert_allclose(with_switches(on, choice, 0.0)[0], on.seconds(choice))


def test_a_deadline_before_the_fastest_step_is_refused(found: EnergyPlan) -> None:
    with pytest.raises(WrongInput, match="before the fastest step"):
        energy_plan(found.job, found.plan, deadline=0.5 * found.base.seconds)


def test_a_straggler_saves_more(found: EnergyPlan) -> None:
    slower = energy_plan(found.job, found.plan, deadline=1.1 * found.base.seconds)
    assert slower.saved(slower.chosen) > found.saved(found.chosen)


def test_the_law_at_the_largest_clock() -> None:
    """All of a matmul follows the clock, nothing of a message does; the limit is the most that is drawn."""
    h100 = device("h100-sxm-80gb")
    seconds = np.zeros(8)
    seconds[0], seconds[3] = 1.0, 0.5
    curve = law_curve(h100, seconds)
    assert curve.seconds[0] == pytest.approx(1.5)
    assert curve.joules[0] == pytest.approx(700 * 1.0 + 130 * 0.5)
    assert curve.seconds[-1] == pytest.approx(0.5 + curve.clock[0] / curve.clock[-1])


def test_the_cleanest_hour() -> None:
    series = np.array([4.0, 4.0, 1.0, 1.0, 4.0])
    assert cleanest_start(series, 2 * 3600.0) == (2, 1.0, 4.0)
    with pytest.raises(WrongInput, match="holds 5 hours"):
        cleanest_start(series, 9 * 3600.0)
