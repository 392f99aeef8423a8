"""Laws of the time-energy frontier: exact on tiny graphs, convex, falling, and ends where it should."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.price.curve import Curve
from simtrain.search.clocks import coarse, staged, tradeoff
from simtrain.search.deadline import Deadline
from simtrain.search.frontier import frontier
from simtrain.search.rounding import Rounder
from simtrain.search.tradeoff import Tradeoff
from simtrain.timeline.build import build
from tests.pipelines import SCHEDULES, costs

WAITING = 80.0
RATIO = np.array([1.0, 0.8, 0.65])


def curve(seconds: float, power: float) -> Curve:
    """Three clocks; power falls with the square of the clock."""
    slower = seconds * (0.2 + 0.8 / RATIO)
    return Curve(1e9 * RATIO, slower, (WAITING + power * RATIO**2.5) * slower)


def problem(schedule: str, stages: int, microbatches: int, longest: float, **more: float) -> Tradeoff:
    """A pipeline whose stages differ up to a factor `longest`."""
    chunks, drawn = SCHEDULES[schedule]
    given_costs = costs(stages, chunks, **more)
    uneven = np.linspace(1.0, longest, stages)[None, :, None]
    given_costs.forward[:] *= uneven
    given_costs.backward[:] *= uneven
    seconds = given_costs.pass_seconds()
    graph = build(drawn(stages, chunks, microbatches), given_costs)
    return tradeoff(graph, given_costs, lambda p, s, c: curve(float(seconds[p, s, c]), 300.0 + 20 * s), WAITING)


@settings(max_examples=15)
@given(st.floats(1.0, 2.0), st.floats(1.0, 1.6))
def test_no_choice_of_clocks_beats_the_bound_and_ours_is_close(longest: float, slack: float) -> None:
    found = problem("1f1b", 2, 2, longest)
    first = found.duration(found.seconds(found.fastest))
    deadline = slack * first
    solver = Deadline(found)
    bound, _, wanted = solver.solve(deadline)
    options = [range(len(found.curves[at])) for at in found.of_group]
    best = np.inf
    for choice in itertools.product(*options):
        picked = np.array(choice)
        length = found.duration(found.seconds(picked))
        if length <= deadline * (1 + 1e-9):
            best = min(best, found.joules(picked, deadline))
    rounder = Rounder(found)
    rounded = rounder.point(deadline, wanted)
    polished = rounder.polished(rounded)
    ours, before = (found.joules(point.choice, deadline) for point in (polished, rounded))
    assert bound <= best * (1 + 1e-9)
    assert polished.seconds <= deadline * (1 + 1e-6)
    assert best <= ours * (1 + 1e-9)
    assert ours <= before * (1 + 1e-12) <= 1.06 * best
    assert ours <= 1.02 * best


@settings(max_examples=15)
@given(st.sampled_from(sorted(SCHEDULES)), st.floats(1.0, 1.5), st.sampled_from([0.0, 0.1]))
def test_the_frontier_is_convex_and_falling_and_starts_at_the_largest_clocks(
    schedule: str, longest: float, hop: float
) -> None:
    found = frontier(problem(schedule, 4, 8, longest, hop=hop))
    on = found.tradeoff
    first = on.duration(on.seconds(on.fastest))
    assert found.points[0].seconds == pytest.approx(first, rel=1e-6)
    assert found.points[0].joules <= on.joules(on.fastest, first) * (1 + 1e-9)
    thrifty = found.deadline <= found.thriftiest.seconds
    assert (np.diff(found.bound[thrifty] - on.standing * found.deadline[thrifty]) <= 1e-6).all()
    assert (np.diff(found.slope) >= -1e-6).all()
    assert all(p.seconds <= p.deadline * (1 + 1e-6) for p in found.points)
    assert all(a.seconds < b.seconds and a.joules > b.joules for a, b in itertools.pairwise(found.points))
    assert all(found.gap(p) >= -1e-6 for p in found.points)


def test_equal_stages_without_slack_keep_the_largest_clocks_on_the_critical_path() -> None:
    """One stage has no slack at all: at its shortest step the energy is that of largest clocks."""
    found = problem("1f1b", 1, 4, 1.0)
    first = found.duration(found.seconds(found.fastest))
    bound = Deadline(found).solve(first * (1 + 1e-9))[0]
    assert bound == pytest.approx(found.joules(found.fastest, first), rel=1e-6)


@pytest.mark.parametrize("schedule", ["1f1b", "interleaved", "zb-1p"])
def test_fewer_clocks_never_save_more(schedule: str) -> None:
    fine = problem(schedule, 4, 8, 1.4)
    first = fine.duration(fine.seconds(fine.fastest))
    deadline = 1.1 * first
    by_pass, by_part = frontier(fine, besides=(deadline,)), frontier(coarse(fine), besides=(deadline,))
    stages = staged(fine)
    one = Rounder(stages).point(deadline, np.zeros(len(stages.of_group)))
    assert float(by_pass.least(deadline)[0]) <= float(by_part.least(deadline)[0]) * (1 + 1e-9)
    assert by_part.gap(by_part.at(deadline)) < 0.04
    assert float(by_pass.least(one.seconds)[0]) <= one.joules
    assert one.joules < fine.joules(fine.fastest, first)


def test_smoothing_gives_convex_curves_and_keeps_clean_ones() -> None:
    clean = curve(1.0, 300.0).over(WAITING)
    np.testing.assert_allclose(clean.smoothed().joules, clean.joules, rtol=1e-6)
    noise = np.random.default_rng(1).normal(0, 0.02, 30)
    ratio = np.linspace(1.0, 0.6, 30)
    noisy = Curve(1e9 * ratio, 1 / ratio + noise * 0.1, (1 + ratio**3 + noise) / ratio)
    smooth = noisy.smoothed()
    assert (np.diff(smooth.seconds) >= 0).all()
    at, rows = np.unique(smooth.seconds, return_index=True)
    slopes = np.diff(smooth.joules[rows]) / np.diff(at)
    assert (np.diff(slopes) >= -1e-6).all()


@given(st.floats(100.0, 500.0))
def test_a_cap_holds_and_never_makes_a_pass_faster(limit: float) -> None:
    free = curve(1.0, 400.0)
    held = free.capped(limit, WAITING)
    assert (held.joules / held.seconds <= limit * (1 + 1e-9)).all() or limit >= (free.joules / free.seconds).max()
    assert (held.seconds >= free.seconds * (1 - 1e-12)).all()
