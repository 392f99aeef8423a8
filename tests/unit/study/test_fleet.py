"""Sizes of a cluster compared, and plans of least energy."""

from typing import Any

import pytest
from jobs import job

from simtrain.estimate import estimate, machine
from simtrain.search.quickest import quickest
from simtrain.search.thrifty import joules, thrifty
from simtrain.spec.job import Job
from simtrain.study.fleet import first_look, fleet
from simtrain.study.objective import Aim, Limits

SEEN: dict[int, dict[str, Any]] = {}


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    """On 8 and 16 devices."""
    return [job("llama-3-8b", "dgx-h100", count, tokens=10**9) for count in (8, 16)]


@pytest.fixture(autouse=True)
def looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """First looks are the same for every aim."""

    def look(job: Job) -> dict[str, Any]:
        if job.devices not in SEEN:
            SEEN[job.devices] = first_look(job)
        return SEEN[job.devices]

    monkeypatch.setattr("simtrain.study.fleet.first_look", look)


def test_fewer_devices_are_cheaper_and_a_deadline_asks_for_more(jobs: list[Job]) -> None:
    """Twice the devices take more than half the time, so the cheapest is the smallest that keeps the deadline."""
    free = fleet(jobs, Aim("cost", Limits(), None, None), processes=1)
    assert [option.devices for option in free.sizes] == [8, 16]
    assert free.best(jobs).devices == 8
    assert {option.devices for option in free.weighed.front} == {8, 16}
    slow = free.weighed.ranked[0]
    hurried = fleet(jobs, Aim("cost", Limits(seconds=0.8 * slow.seconds), None, None), processes=1)
    assert hurried.best(jobs).devices == 16
    assert hurried.weighed.ranked[0].bill.money > slow.bill.money


def test_nothing_in_time_leaves_no_option(jobs: list[Job]) -> None:
    none = fleet(jobs, Aim("time", Limits(seconds=1.0), None, None), processes=1)
    assert not none.weighed.ranked
    assert none.best(jobs).devices == 16


def test_plans_of_least_energy_take_no_more_than_the_fastest(jobs: list[Job]) -> None:
    on = machine(jobs[0])
    fastest, _ = quickest(jobs[0], 5)
    cool = estimate(jobs[0], thrifty(jobs[0], 5), on)
    ours = joules(jobs[0], cool, on) / cool.plans.global_batch
    assert list(ours) == sorted(ours)
    assert ours[0] <= (joules(jobs[0], fastest, on) / fastest.plans.global_batch).min() * (1 + 1e-9)
    assert cool.roomy.all()
