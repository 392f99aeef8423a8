"""Slow stages, ranks and replicas, and passes of given lengths."""

from dataclasses import replace

import numpy as np
import pytest
import steps
from pipelines import costs

from simtrain.errors import WrongInput
from simtrain.estimate.course import Course
from simtrain.spec.plan import Plan
from simtrain.spec.slow import slow
from simtrain.timeline.duration_table import duration_table
from simtrain.timeline.order import PHASES
from simtrain.timeline.schedules import interleaved, one_f_one_b, zero_bubble
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.slowdown import slowdown
from simtrain.timeline.step import step

ORDERS = {
    "1f1b": one_f_one_b.order(3, 1, 6),
    "interleaved": interleaved.order(2, 3, 4),
    "zb-1p": zero_bubble.order(3, 6, Pace(), limit=3),
}


def laid(plan: Plan, stages: int, *texts: str):
    return slowdown([slow(text) for text in texts], plan, stages)


def test_a_slow_stage_sets_the_pace_of_1f1b() -> None:
    """The last: the others fill, it works without a pause, they drain: (p - 1) + 1.5 m forward and backward passes."""
    factor = laid(Plan(pp=4), 4, "stage=3:1.5").factor
    found = step(one_f_one_b.order(4, 1, 16), costs(4, 1, 1.0, 2.0, 0.0), factor)
    assert found.seconds == pytest.approx(3 * (1.0 + 2.0) + 16 * 1.5 * (1.0 + 2.0))


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("every", [False, True])
def test_replicas_that_are_alike_are_replayed_once(name: str, every: bool) -> None:
    """Step and mean of the terms are those of a replay of all of them."""
    order = ORDERS[name]
    stages, chunks = order.place.shape
    given = steps.costs(stages, chunks, shown=0.5, every=every)
    merged = laid(Plan(dp=6), stages, "replica=2:1.3", "stage=1:1.1", "replica=4,stage=0:1.2")
    assert merged.count.tolist() == [4, 1, 1]
    assert merged.replica.tolist() == [0, 2, 4]
    full = np.ones((6, stages))
    full[2] *= 1.3
    full[:, 1] *= 1.1
    full[4, 0] *= 1.2
    all_of_them, some = step(order, given, full), replace(step(order, given, merged.factor), slowdown=merged)
    assert some.seconds == pytest.approx(all_of_them.seconds)
    assert some.mean_terms() == pytest.approx(all_of_them.terms.mean(axis=1))
    assert some.mean_terms().sum() == pytest.approx(some.seconds)


def test_a_rank_slows_its_tensor_and_context_group() -> None:
    """Ranks count tensor fastest, then context, data, pipeline: 53 = 3 x 16 + 1 x 4 + 1."""
    plan = Plan(tp=2, cp_ring=2, dp=4, pp=4)
    assert laid(plan, 4, "rank=53:2").factor.tolist() == laid(plan, 4, "replica=1,stage=3:2").factor.tolist()


def test_replicas_that_exchange_tokens_run_at_the_slowest_pace() -> None:
    """Expert groups of 8 ranks span two replicas of 4."""
    found = laid(Plan(tp=4, ep=8, dp=6), 1, "replica=3:1.5")
    assert found.count.tolist() == [4, 2]
    assert found.replica.tolist() == [0, 2]


@pytest.mark.parametrize("name", ORDERS)
def test_the_costs_as_a_table_change_nothing(name: str) -> None:
    order = ORDERS[name]
    stages, chunks = order.place.shape
    given = steps.costs(stages, chunks, shown=0.5)
    lines = ["stage,chunk,phase,seconds"]
    used = {int(phase) for phase in order.phase.flat if phase >= 0}
    for (phase, stage, chunk), seconds in np.ndenumerate(given.pass_seconds()):
        if phase in used:
            lines.append(f"{stage},{chunk},{PHASES[phase]},{float(seconds)!r}")
    table = duration_table("\n".join(lines), "mine.csv").of(order)
    without, same = step(order, given), step(order, given, given=table)
    assert same.seconds == without.seconds
    assert same.terms == pytest.approx(without.terms)
    assert step(order, given, given=2 * table).terms[:4] == pytest.approx(2 * without.terms[:4])
    late = np.linspace(1, 2, 2 * stages).reshape(2, stages)
    assert step(order, given, late, table).terms == pytest.approx(step(order, given, late).terms)


def test_a_pipeline_that_never_drains_is_slow_by_stages_only() -> None:
    plan = Plan(pp=2, dp=4, schedule="no-flush")
    found = Course(slow=(slow("stage=1:1.5"),)).undrained(plan, 2)
    assert found is not None
    assert found.factor.tolist() == [[1.0, 1.5]]
    table = duration_table("stage,phase,seconds\n0,F,1\n", "mine.csv")
    with pytest.raises(WrongInput) as wrong:
        Course(slow=(slow("replica=1:1.5"),), durations=table).undrained(plan, 2)
    assert [problem.where for problem in wrong.value.problems] == ["--slow", "--durations"]


def test_the_row_that_says_more_goes_first() -> None:
    order = ORDERS["interleaved"]
    text = "stage,chunk,phase,microbatch,seconds\n1,,F,2,4\n1,0,forward,,3\n1,,F,,2\n\n1,0,F,2,5\n"
    found = duration_table(text, "mine.csv").of(order)[0, 1]
    assert found.tolist() == [[3, 3, 5, 3], [2, 2, 4, 2], [2, 2, 4, 2]]
    assert np.isnan(duration_table(text, "mine.csv").of(order)[0, 0]).all()


def test_all_that_is_wrong_with_a_table() -> None:
    text = "stage,phase,microbatch,seconds\n1,backwards,,0.5\n0,F,x,-1\n0,F,1\n0,F,1,2\n0,forward,1,3\n"
    with pytest.raises(WrongInput) as wrong:
        duration_table(text, "mine.csv")
    found = [(problem.where, problem.rule) for problem in wrong.value.problems]
    assert [where for where, _ in found] == [
        "mine.csv: line 2, phase",
        "mine.csv: line 3, microbatch",
        "mine.csv: line 3, seconds",
        "mine.csv: line 4",
        "mine.csv: line 6",
    ]
    assert found[-1][1] == "repeats line 5"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("stage=1", "must be a place, a colon and a factor"),
        ("stag=1:2", "'stag' is not a place"),
        ("stage=1,stage=2:2", "names its stage twice"),
        ("stage=-1:2", "stage must be a whole number from 0"),
        ("rank=1,stage=1:2", "a rank is of one stage and replica"),
        ("stage=1:0", "the factor must be above 0"),
        ("stage=1:nan", "the factor must be above 0"),
    ],
)
def test_what_is_not_a_slow_place(text: str, rule: str) -> None:
    with pytest.raises(WrongInput) as wrong:
        slow(text)
    assert wrong.value.problems[0].rule.startswith(rule)
