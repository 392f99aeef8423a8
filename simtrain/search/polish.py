"""Clocks changed a pass at a time, with the changes of other passes that each one calls for, while energy falls.

A pass made faster leaves time that others fill; one made slower takes time that others give. Of a local optimum no such
exchange is better. (An ejection search on the discrete time-cost trade-off, which is NP-hard: De et al. 1997,
doi 10.1287/opre.45.2.302.)
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simtrain.timeline.compiled import compiled
from simtrain.timeline.order import Index

Array = NDArray[np.float64]
STEPS: Final = (-1, 1, 2, 4, 8, 16, 32, 64)
"""Options by which a pass is first made faster or slower."""
EFFORT: Final = 100_000_000
"""Visits of operations until the search ends: a few seconds; steps of a thousand passes end before."""
LEAST: Final = 1e-12
"""Share of a pass's joules that an exchange saves at least; seconds that a step may be off by."""


class Passes(NamedTuple):
    """A step each of whose groups is one operation."""

    turns: Index
    before: Index
    ends: Index
    begins: Array
    """These four as in Tradeoff."""
    operation: Index
    """Of every group, shape (groups,)."""
    seconds: Array
    """Of every group at every option, shape (groups, most options)."""
    joules: Array
    options: Index
    """How many every group has."""
    deadline: float


class State(NamedTuple):
    """What changes while clocks do."""

    choice: Index
    """Option of every group."""
    durations: Array
    """Of every operation, shape (operations,)."""
    ends: Array
    """When it ends at the earliest."""
    spare: Array
    """How much later it may end."""
    left: Index
    """Passes over all operations that may still be made, shape (1,)."""


def polish(passes: Passes, choice: Index, durations: Array) -> Index:
    """Options of every group that take no more energy than `choice`, within the deadline; it must keep it.

    `durations`: s of every operation with `choice`.
    """
    left = np.array([EFFORT // len(durations)])
    state = State(choice.copy(), durations.copy(), np.empty(len(durations)), np.empty(len(durations)), left)
    _exchange(passes, state)
    return state.choice


@compiled
def _exchange(passes: Passes, state: State) -> None:
    _fill(passes, state, -1)
    choice, durations = state.choice.copy(), state.durations.copy()
    better = True
    while better:
        better = False
        for group in range(len(choice)):
            for step in STEPS:
                last = passes.options[group] - 1
                option = min(choice[group] + step, last)
                if option < 0 or option == choice[group] or (step > 1 and choice[group] + step // 2 >= last):
                    continue
                if state.left[0] <= 0:
                    return
                cost = passes.joules[group, option] - passes.joules[group, choice[group]]
                _set(passes, state, group, option)
                cost += -_fill(passes, state, group) if step < 0 else _repair(passes, state, -cost)
                if cost < -LEAST * passes.joules[group, 0]:
                    _fill(passes, state, -1)
                    choice[:], durations[:] = state.choice, state.durations
                    better = True
                else:
                    state.choice[:], state.durations[:] = choice, durations


@compiled
def _set(passes: Passes, state: State, group: int, option: int) -> None:
    seconds = passes.seconds[group]
    state.durations[passes.operation[group]] += seconds[option] - seconds[state.choice[group]]
    state.choice[group] = option


@compiled
def _fill(passes: Passes, state: State, but: int) -> float:
    """Joules saved by slower options that fit, the best first; none of group `but`."""
    saved = 0.0
    while True:
        _times(passes, state)
        most, at, to = 0.0, -1, -1
        for group in range(len(state.choice)):
            spare = state.spare[passes.operation[group]]
            if group == but or spare <= 0:
                continue
            now = option = state.choice[group]
            while (
                option + 1 < passes.options[group]
                and passes.seconds[group, option + 1] - passes.seconds[group, now] <= spare
            ):
                option += 1
            gain = passes.joules[group, now] - passes.joules[group, option]
            if gain > most:
                most, at, to = gain, group, option
        if at < 0:
            return saved
        saved += most
        _set(passes, state, at, to)


@compiled
def _repair(passes: Passes, state: State, most: float) -> float:
    """Joules of the faster options that keep the deadline, the cheapest a second first; inf once it is `most`."""
    paid = 0.0
    while True:
        over = -_times(passes, state)
        if over <= LEAST:
            return paid
        least, at, to = np.inf, -1, -1
        for group in range(len(state.choice)):
            now = state.choice[group]
            if state.spare[passes.operation[group]] > -over * (1 - 1e-9):
                continue
            for option in range(now - 1, -1, -1):
                faster = passes.seconds[group, now] - passes.seconds[group, option]
                rate = (passes.joules[group, option] - passes.joules[group, now]) / min(faster, over)
                if rate < least:
                    least, at, to = rate, group, option
                if faster >= over:
                    break
        if at < 0:
            return np.inf
        paid += passes.joules[at, to] - passes.joules[at, state.choice[at]]
        if paid >= most:
            return np.inf
        _set(passes, state, at, to)


@compiled
def _times(passes: Passes, state: State) -> float:
    """Set `ends` and `spare`; the least of `spare`, or 0."""
    ends, spare = state.ends, state.spare
    for operation in passes.turns:
        at = 0.0
        for k in range(passes.before.shape[1]):
            needed = passes.before[operation, k]
            if needed >= 0 and ends[needed] > at:
                at = ends[needed]
        ends[operation] = at + state.durations[operation]
    spare[:] = np.inf
    for rank in range(len(passes.ends)):
        spare[passes.ends[rank]] = min(spare[passes.ends[rank]], passes.deadline + passes.begins[rank])
    least = 0.0
    for place in range(len(passes.turns) - 1, -1, -1):
        operation = passes.turns[place]
        start = spare[operation] - state.durations[operation]
        for k in range(passes.before.shape[1]):
            needed = passes.before[operation, k]
            if needed >= 0 and start < spare[needed]:
                spare[needed] = start
        spare[operation] -= ends[operation]
        least = min(least, spare[operation])
    state.left[0] -= 1
    return least
