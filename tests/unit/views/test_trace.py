"""A trace as a viewer reads it: it tells the step that was replayed."""

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from steps import CATEGORIES, GIB, replay

from simtrain.price.categories import COMMUNICATION
from simtrain.timeline.footprint import Footprint
from simtrain.timeline.schedules import interleaved, one_f_one_b, zero_bubble_v
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.step import SENDING, Step
from simtrain.views.trace import TRACKS, trace

TICK = 0.125
"""Microseconds."""
STEPS = {
    "messages hold the sender up": replay(one_f_one_b.order(4, 1, 6)),
    "messages beside passes": replay(one_f_one_b.order(4, 1, 6), shown=0.3),
    "chunks": replay(interleaved.order(2, 3, 4), shown=0),
    "weight gradients apart": replay(zero_bubble_v.order(3, 2, 5, Pace()), shown=0.5),
    "traffic of every microbatch": replay(one_f_one_b.order(2, 1, 3), every=True),
    "a slow replica": replay(one_f_one_b.order(2, 1, 12), slowdown=[[0.937, 1 / 3], [1.1, 1.234567]]),
    "one stage": replay(one_f_one_b.order(1, 1, 2)),
}
Events = list[dict[str, Any]]


def events(found: Step, held: Footprint, phase: str) -> Events:
    """The events of one kind: X slices, C counters, M names."""
    return [
        event for event in json.loads("".join(trace(found, held, CATEGORIES)))["traceEvents"] if event["ph"] == phase
    ]


def slices(found: Step, held: Footprint) -> dict[tuple[int, int], Events]:
    """Slices by rank and track, in the order of time."""
    by_track = defaultdict(list)
    for event in events(found, held, "X"):
        rank = (event["pid"] - 1) // len(TRACKS)
        by_track[rank, event["tid"] - event["pid"]].append(event)
    return {track: sorted(found, key=lambda event: event["ts"]) for track, found in by_track.items()}


@pytest.mark.parametrize(("found", "held"), STEPS.values(), ids=STEPS)
class TestEverySchedule:
    def test_slices_of_a_track_do_not_overlap(self, found: Step, held: Footprint) -> None:
        """Nor where a reader rounds each number to a nanosecond."""
        for track in slices(found, held).values():
            for before, after in pairwise(track):
                assert round(1e3 * before["ts"]) + round(1e3 * before["dur"]) <= round(1e3 * after["ts"])

    def test_the_last_slice_ends_the_step(self, found: Step, held: Footprint) -> None:
        ends = max(event["ts"] + event["dur"] for event in events(found, held, "X"))
        assert ends == pytest.approx(1e6 * found.seconds, abs=TICK)

    def test_passes_take_what_the_step_says_by_category(self, found: Step, held: Footprint) -> None:
        taken = np.zeros((len(CATEGORIES), found.graph.ranks))
        for (rank, track), drawn in slices(found, held).items():
            for event in drawn:
                if track == TRACKS.index("compute"):
                    for name, seconds in event["args"].get("time_by_category_s", {}).items():
                        taken[CATEGORIES.index(name), rank] += seconds
        assert taken == pytest.approx(found.terms[: len(CATEGORIES)])

    def test_lengths_of_slices_are_seconds(self, found: Step, held: Footprint) -> None:
        """Passes last as long as their categories, the communication drawn at their ends as long as its own."""
        drawn = slices(found, held)
        for rank in range(found.graph.ranks):
            passes = [event for event in drawn[rank, 0] if not event["name"].endswith("send")]
            inside = drawn[rank, TRACKS.index("communication in passes")]
            assert len(inside) == len(passes)
            for whole, part in zip(passes, inside, strict=True):
                by_category = whole["args"]["time_by_category_s"]
                talks = sum(by_category[name] for name in COMMUNICATION if name in by_category)
                assert whole["dur"] == pytest.approx(1e6 * sum(by_category.values()), abs=2 * TICK)
                assert part["dur"] == pytest.approx(1e6 * talks, abs=2 * TICK)
                assert part["ts"] + part["dur"] == whole["ts"] + whole["dur"]
                assert part["name"] == f"{whole['name']} communication"

    def test_every_operation_that_lasts_is_drawn(self, found: Step, held: Footprint) -> None:
        graph = found.graph
        for (rank, track), drawn in slices(found, held).items():
            if track > 1:
                at = graph.stream(track - 1, rank)
                assert len(drawn) == (graph.seconds[at] > 0).sum()
                assert sum(event["dur"] for event in drawn) == pytest.approx(1e6 * graph.seconds[at].sum())

    def test_counters_reach_the_peak(self, found: Step, held: Footprint) -> None:
        counters = events(found, held, "C")
        totals = [event["args"]["total"] for event in counters if "total" in event["args"]]
        classes = [event["args"] for event in counters if "total" not in event["args"]]
        assert max(totals) == pytest.approx(held.total.max() / GIB, abs=1e-4)
        assert [sum(by_class.values()) for by_class in classes] == pytest.approx(totals, abs=3e-4)
        replicas = found.graph.ranks // found.order.stages
        assert len(totals) == replicas * ((found.order.phase >= 0).sum() + found.order.stages)

    def test_a_microbatch_is_followed_there_and_back(self, found: Step, held: Footprint) -> None:
        ways = defaultdict(list)
        for event in events(found, held, "X"):
            if "bind_id" in event:
                ways[event["bind_id"]].append(event)
        replicas = found.graph.ranks // found.order.stages
        assert len(ways) == replicas * found.order.microbatches
        last = found.order.place.size - 1
        for way in ways.values():
            way.sort(key=lambda event: event["ts"])
            visited = [event["args"]["position"] for event in way]
            assert [*dict.fromkeys(visited)] == list(range(last + 1))
            assert visited[visited.index(last) :] == sorted(visited[visited.index(last) :], reverse=True)
            assert [event for event in way if "flow_in" not in event] == way[:1]
            assert [event for event in way if "flow_out" not in event] == way[-1:]


def test_a_send_that_holds_its_stage_up_is_a_slice_of_its_own() -> None:
    found, held = STEPS["messages hold the sender up"]
    drawn = slices(found, held)
    for rank in range(found.graph.ranks):
        sent = sum(event["dur"] for event in drawn[rank, 0] if event["name"].endswith("send"))
        assert sent == pytest.approx(1e6 * found.graph.blocked[found.graph.rank == rank].sum(), rel=1e-3)
        assert 0 < sent <= 1e6 * found.terms[len(CATEGORIES) + SENDING, rank]
    assert not any(track == TRACKS.index("pipeline") for _, track in drawn)


def test_memory_changes_with_passes() -> None:
    """And drops to what stays once the last pass is done."""
    found, held = STEPS["weight gradients apart"]
    drawn = slices(found, held)
    counters = [event for event in events(found, held, "C") if "total" in event["args"]]
    for rank in range(3):
        passes = [event for event in drawn[rank, 0] if not event["name"].endswith("send")]
        of_rank = [event for event in counters if event["pid"] == passes[0]["pid"]]
        ends = max(event["ts"] + event["dur"] for event in drawn[rank, 0])
        assert {event["ts"] for event in of_rank} <= {event["ts"] for event in passes} | {ends}
        assert of_rank[-1]["ts"] == ends
        assert of_rank[-1]["args"]["total"] == 20.0


def test_ranks_and_streams_are_named() -> None:
    found, held = STEPS["a slow replica"]
    names = events(found, held, "M")
    processes = [event["args"]["name"] for event in names if event["name"] == "process_name"]
    tracks = [event["args"]["name"] for event in names if event["name"] == "thread_name"]
    assert processes == [f"replica {replica} stage {stage}" for replica in (0, 1) for stage in (0, 1)]
    assert tracks == 4 * list(TRACKS)
    threads = [event["tid"] for event in names if event["name"] == "thread_name"]
    assert len(set(threads)) == len(threads)
