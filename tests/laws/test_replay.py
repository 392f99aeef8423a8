"""The replay against a slow simulation of its own, and what every step must obey."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import SCHEDULES, costs, replayed

from simtrain.timeline.build import build
from simtrain.timeline.costs import Costs, Traffic
from simtrain.timeline.graph import COMPUTE
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, NONE, WEIGHT, Order, folded, joined, looped
from simtrain.timeline.schedules import one_f_one_b
from simtrain.timeline.step import step

SOME = settings(max_examples=60)
SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def random_order(draw: np.random.Generator) -> Order:
    """Any order that ends: passes drawn one by one of those whose needs have been drawn; some gradients apart."""
    stages, chunks, microbatches = draw.integers(1, 5), 2 * draw.integers(1, 3), draw.integers(1, 6)
    place = (looped, folded)[draw.integers(2)](stages, chunks)
    ends = place.size
    ready = [(0, microbatch, FORWARD) for microbatch in range(microbatches)]
    rows: list[list[tuple[int, int, int]]] = [[] for _ in range(stages)]
    while ready:
        position, microbatch, phase = ready.pop(draw.integers(len(ready)))
        stage, chunk = np.argwhere(place == position)[0].tolist()
        rows[stage].append((chunk, microbatch, phase))
        if phase == FORWARD and position + 1 < ends:
            ready.append((position + 1, microbatch, FORWARD))
        elif phase == FORWARD:
            ready.append((position, microbatch, (BACKWARD, INPUT)[draw.integers(2)]))
        elif phase in (BACKWARD, INPUT):
            if position:
                ready.append((position - 1, microbatch, (BACKWARD, INPUT)[draw.integers(2)]))
            if phase == INPUT:
                ready.append((position, microbatch, WEIGHT))
    return joined([np.array(row) for row in rows], place)


def random_costs(draw: np.random.Generator, order: Order, **more: object) -> Costs:
    """Costs of any size; of two categories."""
    shape = order.place.shape
    seconds = draw.exponential(size=(3, 2, *shape)) * draw.integers(0, 2, (3, 2, *shape))
    hops, update = draw.exponential(size=(2, len(order.place)))
    shown = (0.0, 0.3, 1.0)[draw.integers(3)]
    return replace(costs(*shape), **dict(zip(("forward", "backward", "weight"), seconds, strict=True)),
                   hops=hops, shown=shown, update=update, **more)  # fmt: skip


def random_traffic(draw: np.random.Generator, order: Order) -> dict[str, object]:
    """Gathering and reduction of any size, once a step or with every pass; stages that wait for one another or not."""
    gather, again, reduction = draw.exponential(size=(3, *order.place.shape))
    hidden, every = draw.random(2), draw.integers(0, 2, 2)
    return {
        "gather": Traffic(gather, hidden[0], bool(every[0]), again),
        "reduction": Traffic(reduction, hidden[1], bool(every[1])),
        "buckets": int(draw.integers(1, 5)),
        "tied": draw.random(),
        "overhead": draw.random(),
        "synchronous": bool(draw.integers(2)),
    }


def simulated(order: Order, given: Costs) -> dict[tuple[int, int, int], tuple[float, float]]:
    """When each pass (position, microbatch, phase) starts and ends: the stages are asked in turn until none moves."""
    seconds, stages, ends = given.pass_seconds(), order.stages, order.place.size
    home = {int(at): (stage, chunk) for stage, row in enumerate(order.place) for chunk, at in enumerate(row)}
    rows = [
        [action for action in zip(*row, strict=True) if action[1] != NONE]
        for row in zip(order.position.tolist(), order.phase.tolist(), order.microbatch.tolist(), strict=True)
    ]
    free, sent, found = [0.0] * stages, [0.0] * stages, {}
    there = {(FORWARD, 0, microbatch): 0.0 for microbatch in range(order.microbatches)}
    while any(rows):
        for stage, row in enumerate(rows):
            while row:
                position, phase, microbatch = row[0]
                way = BACKWARD if phase == INPUT else phase
                if (way, position, microbatch) not in there:
                    break
                row.pop(0)
                start = max(free[stage], there[way, position, microbatch])
                onward = position + {FORWARD: 1, BACKWARD: -1, WEIGHT: ends}[way]
                free[stage] = start + seconds[phase, stage, home[position][1]]
                other = home[onward][0] if onward in home else stage
                link = max(stage, other) if abs(stage - other) > 1 else min(stage, other)
                hop = given.hops[link] if other != stage else 0.0
                free[stage] += given.shown * hop
                found[position, microbatch, phase] = start, free[stage]
                arrival = free[stage]
                if hop and given.shown < 1:
                    arrival = sent[stage] = max(arrival, sent[stage]) + (1 - given.shown) * hop
                if (way, onward) == (FORWARD, ends):
                    there[BACKWARD, position, microbatch] = arrival
                elif onward in home:
                    there[way, onward, microbatch] = arrival
                if phase == INPUT:
                    there[WEIGHT, position, microbatch] = free[stage]
    return found


@SOME
@given(SEEDS)
def test_passes_run_when_a_slow_simulation_says(draw: np.random.Generator) -> None:
    order = random_order(draw)
    given_ = random_costs(draw, order)
    graph, times = build(order, given_), replayed(order, given_)
    passes = slice(*graph.first[[COMPUTE * graph.ranks, (COMPUTE + 1) * graph.ranks]])
    position = order.place[graph.rank[passes], graph.chunk[passes]]
    keys = zip(position.tolist(), graph.microbatch[passes].tolist(), graph.kind[passes].tolist(), strict=True)
    expected = simulated(order, given_)
    ours = dict(zip(keys, zip(times.start[passes], times.end[passes], strict=True), strict=True))
    assert ours.keys() == expected.keys()
    for key, at in expected.items():
        assert ours[key] == pytest.approx(at, rel=1e-9, abs=1e-12), key


@SOME
@given(SEEDS)
def test_terms_make_up_the_step_on_every_rank(draw: np.random.Generator) -> None:
    order = random_order(draw)
    slowdown = 1 + draw.random((draw.integers(1, 4), order.stages))
    found = step(order, random_costs(draw, order, **random_traffic(draw, order)), slowdown)
    assert found.terms.min() > -1e-9
    assert found.terms.sum(axis=0) == pytest.approx(np.full(slowdown.size, found.seconds))


@SOME
@given(SEEDS)
def test_no_stage_gets_through_faster_by_being_slowed_down(draw: np.random.Generator) -> None:
    order = random_order(draw)
    given_ = random_costs(draw, order, **random_traffic(draw, order))
    slowdown = np.ones((1, order.stages))
    slowdown[0, draw.integers(order.stages)] = 1 + draw.random()
    assert step(order, given_, slowdown).seconds >= step(order, given_).seconds * (1 - 1e-12)


@SOME
@given(SEEDS)
def test_replicas_take_as_long_as_the_slow_one(draw: np.random.Generator) -> None:
    """One that is nowhere faster than another sets the pace of both."""
    order = random_order(draw)
    given_ = random_costs(draw, order, **random_traffic(draw, order))
    slow = 1 + draw.random(order.stages)
    alone = step(order, given_, slow[None])
    both = step(order, given_, np.stack([np.ones(order.stages), slow]))
    assert both.seconds == pytest.approx(alone.seconds)
    assert both.terms[:, order.stages :] == pytest.approx(alone.terms)


@SOME
@given(SEEDS)
def test_replicas_that_are_slow_in_turn_are_slower_than_each(draw: np.random.Generator) -> None:
    order = random_order(draw)
    given_ = random_costs(draw, order, **random_traffic(draw, order))
    slowdown = 1 + draw.random((3, order.stages))
    each = [step(order, given_, row[None]).seconds for row in slowdown]
    assert step(order, given_, slowdown).seconds >= max(each) * (1 - 1e-12)


@SOME
@given(SEEDS)
def test_equal_replicas_are_one(draw: np.random.Generator) -> None:
    order = random_order(draw)
    given_ = random_costs(draw, order, **random_traffic(draw, order))
    several = step(order, given_, np.ones((3, order.stages)))
    assert several.seconds == pytest.approx(step(order, given_).seconds)


@SOME
@given(SEEDS)
def test_traffic_of_no_seconds_is_none(draw: np.random.Generator) -> None:
    """Whatever is said of how it hides; and any traffic costs something or nothing, never less."""
    order = random_order(draw)
    traffic = random_traffic(draw, order)
    nothing = np.zeros(order.place.shape)
    given_ = random_costs(draw, order, **traffic)
    bare = replace(given_, gather=Traffic(nothing, again=nothing), reduction=Traffic(nothing), tied=0.0)
    silent = {name: replace(traffic[name], seconds=nothing, again=nothing) for name in ("gather", "reduction")}
    without = step(order, bare)
    assert step(order, replace(given_, **silent, tied=0.0)).seconds == pytest.approx(without.seconds)
    assert step(order, given_).seconds >= without.seconds * (1 - 1e-12)


@SOME
@given(SEEDS, st.integers(1, 6), st.integers(1, 12), st.floats(0, 1), st.floats(0, 1))
def test_faster_messages_never_lengthen_1f1b(
    draw: np.random.Generator, stages: int, microbatches: int, shown: float, faster: float
) -> None:
    order = one_f_one_b.order(stages, 1, microbatches)
    given_ = replace(random_costs(draw, order), shown=shown)
    quick = replace(given_, hops=faster * given_.hops)
    assert step(order, quick).seconds <= step(order, given_).seconds * (1 + 1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("hop", [0.0, 0.3])
def test_a_stage_has_all_its_work(schedule: str, hop: float) -> None:
    chunks, order = SCHEDULES[schedule]
    found = step(order(4, chunks, 8), costs(4, chunks, 1.0, 1.2, 0.7, hop))
    assert found.terms[0] == pytest.approx(np.full(4, 8 * chunks * 2.9))
