"""Perseus's published savings (SOSP 2024, arXiv 2312.06902) from its measured profiles and runs.

Tables 3 and 4: no curves by clock of those models are published. On A40 the curves of the two models that were
measured on that board meet table 4's longer waits; elsewhere there are steps under power limits, which as curves give
four of table 3's ten savings within 2 points, the others 2 to 8 points too small (`SWEPT`). T5-3B on A40 is a case of
its own: what its power cap wastes and its step has room for.
With A40's fitted law in their place savings are 6 to 10 % where passes are all matmul, 9 to 13 % where a fifth of them
waits for memory; 16 to 29 % are published.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import curve_fit

from simtrain.price.categories import CATEGORIES
from simtrain.price.curve import Curve
from simtrain.price.power_law import law_curve
from simtrain.price.power_profile import power_profile
from simtrain.search.clocks import tradeoff
from simtrain.search.deadline import Deadline
from simtrain.search.frontier import frontier
from simtrain.search.tradeoff import Tradeoff
from simtrain.spec.load import device
from simtrain.timeline.build import build
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.order import FORWARD
from simtrain.timeline.schedules import one_f_one_b
from tests.perseus import PROFILES, PUBLISHED, at_largest, base, blocking, pipeline

EMULATED = PUBLISHED["emulated"]
MEASURED = PUBLISHED["measured"]
TABLE_6 = 0.15
"""Points of saving between ours and the published: all cells, like for like."""
FIGURE_7_BAND = 0.4
REPLAYED = [run for run in MEASURED if "published" in run and run["id"] != "perseus-measured-a40-t5-3b-dp1tp1pp8"]
"""But T5-3B on A40: its passes come to 11.3 s, its step took 25.1 s."""


def lowtimes(curve: Curve, unit: float, waiting: float) -> Curve:
    """A curve as lowtime is given it: floored to `unit` s, of equal floors the dearest, an exponential in its place."""
    there = curve.worth()
    floor = np.floor(there.seconds / unit + 1e-9).astype(int)
    above = there.joules - waiting * there.seconds
    dearest = {int(floor[at]): at for at in np.argsort(above)}
    rows = np.array([dearest[key] for key in sorted(dearest)])
    seconds = floor[rows] * unit
    scaled = (seconds - seconds[0]) / (seconds[-1] - seconds[0])
    guess = (above[rows][0] - above[rows][-1], 3.0, above[rows][-1])
    fit, _ = curve_fit(lambda t, a, b, c: a * np.exp(-b * t) + c, scaled, above[rows], p0=guess, maxfev=50000)
    joules = fit[0] * np.exp(-fit[1] * scaled) + fit[2]
    return Curve(there.clock[rows], seconds, joules + waiting * seconds)


def named(case: dict[str, Any]) -> str:
    return PROFILES[case["model"], case["gpu"]]


@pytest.mark.parametrize("case", EMULATED, ids=lambda case: case["id"])
def test_table_6_like_for_like(case: dict[str, Any]) -> None:
    """Savings at the shortest floored step, over largest clocks that wait as long, in points."""
    waiting = blocking(power_profile(named(case)))
    found = pipeline(named(case), case["microbatches"], lambda c: lowtimes(c, case["unit_time_s"], waiting))
    length = found.duration(found.seconds(found.fastest))
    assert length == pytest.approx(case["frontier_time_s_energy_j"][-1][0], abs=1e-9)
    joules = Deadline(found).solve(length * (1 + 1e-9))[0]
    before = base(named(case), case["microbatches"])[1] + found.standing * length
    assert 100 * (1 - joules / before) == pytest.approx(case["published_intrinsic_saving_pct"], abs=TABLE_6)


OURS = {
    "perseus-emulation-gpt3-175b-a100_sxm-mb12": 15.7,
    "perseus-emulation-gpt3-175b-a40-mb12": 10.5,
    "perseus-emulation-bloom-a100_sxm-mb12": 11.6,
    "perseus-emulation-bloom-a40-mb12": 7.6,
}
"""Savings of clocks that can be set, smoothed points, at the step of largest clocks; in percent, as measured here."""


@pytest.mark.parametrize("case", [c for c in EMULATED if c["id"] in OURS], ids=lambda case: case["id"])
def test_table_6_as_we_define_it(case: dict[str, Any]) -> None:
    """No floors and no exponential: real clocks, within the step that largest clocks take."""
    found = pipeline(named(case), case["microbatches"], Curve.smoothed)
    length, joules = base(named(case), case["microbatches"])
    best = frontier(found, besides=(length,)).at(length)
    assert best.seconds <= length * (1 + 1e-6)
    assert 100 * (1 - best.joules / (joules + found.standing * length)) == pytest.approx(OURS[case["id"]], abs=0.1)


FIGURE_7 = [case for case in EMULATED if case["published_total_saving_pct_straggler_1p2"] is not None]


@pytest.mark.parametrize("case", FIGURE_7, ids=lambda case: case["id"])
def test_figure_7(case: dict[str, Any]) -> None:
    """Savings with one straggler of 16 pipelines, 1.2 times as slow, and T*, the step of least energy.

    The others run at T* and wait for it; it saves what table 6 says. On lowtime's own curves and floored steps.
    """
    waiting = blocking(power_profile(named(case)))
    found = pipeline(named(case), case["microbatches"], lambda c: lowtimes(c, case["unit_time_s"], waiting))
    length = found.duration(found.seconds(found.fastest))
    straggler = 1.2 * length
    solver = Deadline(found)
    planned = {float(at): solver.solve(float(at))[0] for at in np.linspace(length * (1 + 1e-9), straggler, 25)}
    best = min(planned, key=lambda at: planned[at])
    before = base(named(case), case["microbatches"])[1] + found.standing * straggler
    saved = 100 * (1 - (planned[best] + found.standing * (straggler - best)) / before)
    pipelines = case["pipelines"]
    total = ((pipelines - 1) * saved + case["published_intrinsic_saving_pct"]) / pipelines
    assert best / length == pytest.approx(case["published_tstar_over_t"], abs=0.01)
    assert total == pytest.approx(case["published_total_saving_pct_straggler_1p2"], abs=FIGURE_7_BAND)


def measured_pipeline(run: dict[str, Any], curve: Callable[[float, int], Curve]) -> Tradeoff:
    """A step of a run's measured passes; `curve`: of a pass's seconds at the largest clock and its phase."""
    seconds = np.array([[stage["forward"], stage["backward"]] for stage in run["stage_seconds_all_max"]])
    none = Traffic(np.zeros((len(seconds), 1)))
    zero = np.zeros((1, len(seconds), 1))
    forward, backward = seconds.T[:, None, :, None]
    costs = Costs(forward, backward, zero, np.zeros(len(seconds)), none, none, np.zeros(len(seconds)))
    order = one_f_one_b.order(len(seconds), 1, run["microbatches"])
    return tradeoff(
        build(order, costs),
        costs,
        lambda phase, stage, chunk: curve(float(seconds[stage, int(phase != FORWARD)]), int(phase != FORWARD)),
        run["p_block_w"],
    )


def busy(run: dict[str, Any]) -> float:
    """Seconds of all passes of a step, all devices, at the largest clocks."""
    return float(run["microbatches"] * sum(sum(stage.values()) for stage in run["stage_seconds_all_max"]))


def swept(run: dict[str, Any]) -> Callable[[float, int], Curve]:
    """Curves out of the run's steps under power limits: all passes slow down alike, devices between them block."""
    limit, step, joules = np.array(sorted(run["power_limit_global"], reverse=True)).T
    slower, blocking = step / step[0], run["p_block_w"]
    passes = joules - blocking * (run["pp"] * step - busy(run) * slower)
    return lambda seconds, _: Curve(limit, seconds * slower, seconds / busy(run) * passes)


PHASES = ("forward", "backward")
SWEPT = {
    "perseus-measured-a100-bert-huge-uncased-dp1tp1pp4": (9.3, 14.1),
    "perseus-measured-a100-t5-3b-dp1tp1pp4": (9.3, 16.3),
    "perseus-measured-a100-wide-resnet101_8-dp1tp1pp4": (4.4, 11.8),
    "perseus-measured-a40-bert-huge-uncased-dp1tp1pp8": (15.1, 18.0),
    "perseus-measured-a40-wide-resnet101_8-dp1tp1pp8": (14.7, 22.3),
}
"""Savings in percent as found here, table 3's and table 4's at 1.2; published 12.9 and 16.4, 10.6 and 17.9, 3.2 and
12.6, 15.7 and 24.1, 20.4 and 26.3. Runs of over a hundred microbatches take longer: gpt3-xl 9.3 (13.2 in table 3),
bloom-3b 9.6 (11.7) and on A40 14.9 (22.4), gpt3-2.7b 19.2 (21.1)."""


@pytest.mark.parametrize("run", [run for run in MEASURED if run["id"] in SWEPT], ids=lambda run: run["id"])
def test_table_3_and_4_from_power_limits(run: dict[str, Any]) -> None:
    """No straggler, and one 1.2 times as slow for which all wait; a limit costs more time than the clock under it."""
    found = measured_pipeline(run, swept(run))
    solver, length = Deadline(found), found.duration(found.seconds(found.fastest))
    alone, until = saving(solver, length, 1), saving(solver, length, 1.2)
    assert (alone, until) == pytest.approx(SWEPT[run["id"]], abs=0.1)


def saving(solver: Deadline, length: float, factor: float) -> float:
    """Percent saved by clocks for a straggler `factor` times as slow, over largest clocks that wait as long."""
    there = factor * length
    before = solver.tradeoff.joules(solver.tradeoff.fastest, there)
    return 100 * (1 - solver.solve(there * (1 + 1e-9))[0] / before)


STOOD_IN = [run for run in REPLAYED if run["gpu"] == "A40"]
BOARD = ("gpt-3-175b-a40", "bloom-176b-a40")


@pytest.mark.parametrize("run", STOOD_IN, ids=lambda run: run["id"])
def test_table_4_on_a40_by_the_curves_of_other_models(run: dict[str, Any]) -> None:
    """All four runs within 2 points at 1.2 and 1.5, by the mean of what two models measured on that board would save.

    Shorter waits hang on which passes have room, and so on the model: table 3 comes within 2 points for bloom-3b (20.6,
    published 22.4), not for gpt3-2.7b (24.2, 21.1), bert-huge (22.0, 15.7) and wide-resnet101 (17.0, 20.4).
    """
    ours = []
    for name in BOARD:
        curves = [curve.smoothed() for curve in power_profile(name).curves[0]]

        def scaled(seconds: float, phase: int, curves: list[Curve] = curves) -> Curve:
            share = seconds / at_largest(curves[phase])[0]
            return Curve(curves[phase].clock, share * curves[phase].seconds, share * curves[phase].joules)

        found = measured_pipeline(run, scaled)
        solver, length = Deadline(found), found.duration(found.seconds(found.fastest))
        ours.append([saving(solver, length, factor) for factor in (1.2, 1.5)])
    table = run["published"]
    said = dict(zip(table["table4_straggler_factor"], table["table4_perseus_saving_pct"], strict=True))
    assert np.mean(ours, axis=0) == pytest.approx([said[1.2], said[1.5]], abs=2)


def above_waiting(phase: int) -> float:
    """W above waiting of an A40's pass at its clock of least energy, a second at the largest; mean of both profiles."""
    curves = [power_profile(name).curves[0][phase] for name in BOARD]
    wait = blocking(power_profile(BOARD[0]))
    return float(np.mean([(c.joules - wait * c.seconds).min() / at_largest(c)[0] for c in curves]))


def test_t5_on_a40_saves_what_its_power_cap_wastes() -> None:
    """At largest clocks its passes draw the board's 300 W and last longer than timed alone, and they have room.

    Limits down to 175 W lengthen no step, so passes are not what a step waits for (they come to 11.3 s of 25.1 s;
    what it waits for, and why planned steps are shorter, the artifact does not say: steps and joules are taken as
    measured). With room, every pass runs at its own clock of least energy. No curve of T5-3B is published; by those
    of the two models that were measured on an A40, table 3's saving and all six of table 4 come within 2 points.
    """
    run = next(run for run in MEASURED if run["id"] == "perseus-measured-a40-t5-3b-dp1tp1pp8")
    cap, step, joules = max(run["power_limit_global"])
    assert all(longer < step for limit, longer, _ in run["power_limit_global"] if 175 <= limit < cap)
    waiting = run["p_block_w"] * run["pp"]
    throttled = (joules - waiting * step) / (cap - run["p_block_w"])
    assert throttled > 1.15 * busy(run), "at no more than 300 W passes lasted longer than timed"
    timed = [run["microbatches"] * sum(stage[name] for stage in run["stage_seconds_all_max"]) for name in PHASES]
    saved = joules - waiting * step - sum(above_waiting(phase) * seconds for phase, seconds in enumerate(timed))
    said = run["published"]
    factors = [1.0, *said["table4_straggler_factor"]]
    ours = [100 * saved / (joules + waiting * step * (factor - 1)) for factor in factors]
    assert ours == pytest.approx([said["table3_perseus_saving_pct"], *said["table4_perseus_saving_pct"]], abs=2)


@pytest.mark.parametrize("run", REPLAYED, ids=lambda run: run["id"])
def test_steps_of_measured_runs(run: dict[str, Any]) -> None:
    """Steps replayed from measured passes; on A40 energy too, by the fitted law (no law is of the PCIe A100).

    Communication, data and optimizer are not in the passes: all are shorter than measured, by up to 7.7 %.
    """
    share = np.eye(len(CATEGORIES))[CATEGORIES.index("matmul")]
    found = measured_pipeline(run, lambda seconds, _: law_curve(device("a40"), seconds * share))
    _, measured, joules = max(run["power_limit_global"])
    length = found.duration(found.seconds(found.fastest))
    assert 0.92 < length / measured < 1
    if run["gpu"] == "A40":
        assert 0.89 < found.joules(found.fastest, length) / joules < 1


def test_a_power_cap_makes_the_largest_clock_useless() -> None:
    """The A40's stages take no less time from 1,440 MHz on, where they reach the board's 300 W.

    Uncapped power by the law of the clock that the points below it follow, held to 300 W, gives the plateau within 5 %.
    """
    curve = power_profile("gpt-3-175b-a40").curves[0][0]
    below = curve.take(curve.clock <= 1.38e9)
    ratio = below.clock[0] / curve.clock
    share = (below.seconds[-1] / below.seconds[0] - 1) / (below.clock[0] / below.clock[-1] - 1)
    drawn = below.joules / below.seconds
    exponent = np.polyfit(np.log(below.clock), np.log(drawn), 1)[0]
    power = drawn[0] / ratio**exponent
    seconds = below.seconds[0] * (1 - share + share * ratio)
    free = Curve(curve.clock, seconds, np.where(curve.clock > 1.38e9, power * seconds, curve.joules))
    held = free.capped(300.0, blocking(power_profile("gpt-3-175b-a40")))
    above = curve.clock > 1.44e9
    np.testing.assert_allclose(held.seconds[above], curve.seconds[above], rtol=0.05)
    assert (free.seconds[0] < 0.92 * curve.seconds[0]).all()


def test_published_frontiers_are_never_below_ours() -> None:
    """At its own floored steps lowtime's plans, GPT-3 on A100, cost at least what the linear programme says."""
    case = next(c for c in EMULATED if c["id"] == "perseus-emulation-gpt3-175b-a100_sxm-mb12")
    waiting = blocking(power_profile(named(case)))
    found = pipeline(named(case), 12, lambda c: lowtimes(c, case["unit_time_s"], waiting))
    length = found.duration(found.seconds(found.fastest))
    solver = Deadline(found)
    for time, energy in case["frontier_time_s_energy_j"]:
        if time >= length:
            assert solver.solve(time * (1 + 1e-9))[0] <= energy * 1.002


@pytest.mark.parametrize("name", BOARD)
def test_below_the_slowest_clock_a_cap_costs_what_it_did_on_a40(name: str) -> None:
    """From 150 to 125 W four runs took 1.47 to 1.76 times as long: what is drawn while waiting is drawn there, too."""
    steps = [{limit: step for limit, step, _ in run["power_limit_global"]} for run in STOOD_IN]
    measured = np.mean([step[125] / step[150] for step in steps])
    for curve in power_profile(name).curves[0]:
        longer = [float(curve.capped(limit, blocking(power_profile(name))).seconds.min()) for limit in (125.0, 150.0)]
        assert longer[0] / longer[1] == pytest.approx(measured, rel=0.1)
