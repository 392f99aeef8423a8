"""A plan's energy: measured profiles where they are, bounds, late clocks, waiting for stragglers."""

import io

import numpy as np
import pytest
from jobs import job
from rich.console import Console

from simtrain.errors import WrongInput
from simtrain.price.curve import Curve
from simtrain.price.power_law import law_curve
from simtrain.search.clocks import CurveOf, staged, tradeoff, with_switches
from simtrain.search.tradeoff import Tradeoff
from simtrain.spec import load
from simtrain.spec.load import device
from simtrain.spec.plan import Plan
from simtrain.spec.request import Request
from simtrain.study.bill import rates
from simtrain.study.energy import EnergyPlan, device_cap, energy_plan
from simtrain.study.shift import cleanest_start
from simtrain.timeline.build import build
from simtrain.timeline.order import NONE, Order
from simtrain.timeline.schedules import gpipe, one_f_one_b
from simtrain.views.energy import energy_document, print_energy
from tests.pipelines import costs


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
    assert 0 < found.stretch.switches <= 3 * found.plan.pp
    for setting in (found.chosen, found.few, found.stretch, found.steady):
        assert setting.gap >= -1e-9


def test_clocks_that_come_at_once_change_nothing(found: EnergyPlan) -> None:
    on, choice = found.chosen.on, found.chosen.point.choice
    at_once = with_switches(on, choice, 0.0)
    np.testing.assert_allclose(at_once.seconds, on.seconds(choice))
    assert at_once.joules + on.standing == pytest.approx(on.joules(choice, 1.0))


def test_a_deadline_before_the_fastest_step_is_refused(found: EnergyPlan) -> None:
    with pytest.raises(WrongInput, match="before the fastest step"):
        energy_plan(found.job, found.plan, deadline=0.5 * found.base.seconds)


def test_a_straggler_saves_more(found: EnergyPlan) -> None:
    slower = energy_plan(found.job, found.plan, deadline=1.1 * found.base.seconds)
    assert slower.saved(slower.chosen) > found.saved(found.chosen)


def test_who_waits_for_a_straggler_runs_below_the_clocks_of_least_energy(found: EnergyPlan) -> None:
    """Waiting power is drawn until it comes, so what runs longer instead saves more than T* of Perseus does."""
    waits = energy_plan(found.job, found.plan, straggler=1.3, switch=0.0)
    ends = energy_plan(found.job, found.plan, deadline=waits.deadline, switch=0.0)
    assert ends.chosen.seconds <= ends.fine.thriftiest.seconds * (1 + 1e-6) < waits.chosen.seconds
    assert waits.chosen.seconds <= waits.deadline * (1 + 1e-6)
    assert waits.saved(waits.chosen) > ends.saved(ends.chosen) + 0.02


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


def test_finer_clocks_save_no_less(found: EnergyPlan) -> None:
    """Whatever the deadline, far beyond the step of least energy too; clocks that come at once, up to rounding."""
    for factor in (1.0, 1.1, 1.3, 2.0):
        of = energy_plan(found.job, found.plan, deadline=factor * found.base.seconds, switch=0.0)
        by_pass, part, stage = (of.saved(setting) for setting in (of.chosen, of.few, of.steady))
        assert by_pass >= part - 1e-3
        assert part >= stage - 1e-3
        for setting in (of.chosen, of.few, of.steady):
            assert setting.seconds <= of.fine.thriftiest.seconds * (1 + 1e-6)
            assert setting.late == 0


def test_a_steady_clock_is_no_slower_than_its_own_least_energy(found: EnergyPlan) -> None:
    of = energy_plan(found.job, found.plan, deadline=3 * found.base.seconds)
    on = of.steady.on
    slowest = on.joules(on.thriftiest, on.duration(on.seconds(on.thriftiest)))
    assert of.steady.joules <= of.devices * slowest * (1 + 1e-9)
    assert of.steady.joules <= of.devices * of.base.joules


def test_late_clocks_keep_the_deadline_or_it_is_said(found: EnergyPlan) -> None:
    of = energy_plan(found.job, found.plan, deadline=1.1 * found.base.seconds)
    assert of.chosen.switches > 0
    for setting in (of.chosen, of.few, of.steady):
        assert setting.late == 0
        assert setting.seconds <= of.deadline * (1 + 1e-6)
    tight = energy_plan(found.job, found.plan)
    assert tight.chosen.late == pytest.approx(tight.chosen.seconds - tight.deadline, rel=1e-3)
    assert tight.chosen.late > 0
    document = energy_document(tight, rates(tight.job, None, None, None, None), "pass")
    assert document["clocks"]["pass"]["late_s"] == tight.chosen.late
    console = Console(file=io.StringIO(), width=120, record=True)
    print_energy(console, tight, document)
    assert "beyond the deadline, as new clocks come late: pass" in console.export_text()


def one_stage(drawn: Order, curve_of: CurveOf) -> Tradeoff:
    """Passes of one stage, one after the other."""
    given = costs(1, 1)
    return tradeoff(build(drawn, given), given, curve_of, 0.0)


def halved(phase: int, stage: int, chunk: int) -> Curve:
    return Curve(np.array([2e9, 1e9]), np.array([1.0, 2.0]), np.array([300.0, 200.0]))


def test_a_late_pass_costs_the_old_clocks_joules() -> None:
    """A quarter of a fast forward pass runs slow, and half of a slow backward pass fast."""
    on = one_stage(one_f_one_b.order(1, 1, 3), halved)
    step = with_switches(on, np.array([0, 1] * 3), 0.5)
    assert step.changes == 6
    assert step.seconds[on.group != NONE] == pytest.approx([0.5 + 0.75, 0.5 + 1.0] * 3)
    assert step.joules == pytest.approx(3 * (0.25 * 200 + 0.75 * 300 + 0.5 * 300 + 0.5 * 200))


def test_latency_longer_than_a_pass_goes_on_in_the_next() -> None:
    """Two fast passes, two slow ones: the first slow one runs fast, and half of the second."""
    on = one_stage(gpipe.order(1, 1, 2), halved)
    step = with_switches(on, np.array([0, 0, 1, 1]), 1.5)
    assert step.changes == 2
    assert step.seconds[on.group != NONE] == pytest.approx([1.5 + 0.25, 1.0, 1.0, 0.5 + 1.0])
    assert step.joules == pytest.approx(0.75 * 200 + 0.25 * 300 + 300 + 300 + 0.5 * 300 + 0.5 * 200)


def test_a_profile_without_a_clock_for_both_passes_is_refused() -> None:
    def apart(phase: int, stage: int, chunk: int) -> Curve:
        curve = halved(phase, stage, chunk)
        return Curve(curve.clock + 1e6 * phase, curve.seconds, curve.joules)

    with pytest.raises(WrongInput, match="no clock that all its passes share"):
        staged(one_stage(one_f_one_b.order(1, 1, 2), apart))


def test_a_nodes_limit_is_shared_by_its_devices(found: EnergyPlan) -> None:
    host = found.job.cluster.node.host.power
    beside = 0.0 if host is None else host.value
    assert device_cap(found.job, None, 2400 + beside) == pytest.approx(300)
    assert device_cap(found.job, 250.0, 2400 + beside) == 250
    assert device_cap(found.job, 250.0, None) == 250
    with pytest.raises(WrongInput, match="leaves nothing"):
        device_cap(found.job, None, min(beside, 1.0))


@pytest.mark.parametrize("cap", [0.0, 60.0])
def test_a_cap_below_waiting_is_refused(found: EnergyPlan, cap: float) -> None:
    with pytest.raises(WrongInput, match="draws while it waits"):
        energy_plan(found.job, found.plan, cap=cap)


def test_a_schedule_without_flushes_is_refused(found: EnergyPlan) -> None:
    plan = found.plan.model_copy(update={"schedule": "no-flush"})
    with pytest.raises(WrongInput, match="never end"):
        energy_plan(found.job, plan)


def test_hosts_and_switches_are_counted_a_device() -> None:
    """Switches where a job spans nodes; a cluster that states neither has none."""
    node, fabric = load.cluster("dgx-h100").node.host_power, load.cluster("dgx-h100").fabric.power.value
    assert job(gpus=8).power_beside == pytest.approx(node / 8)
    assert job(gpus=16).power_beside == pytest.approx((node + fabric) / 8)
    assert job(cluster="v100-8x-edr", gpus=16, stack="megatron-lm-2021").power_beside == 0.0
