"""The program of one stage: never worse than plain choices, exact on small cases, monotone in memory."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simtrain.estimate.choices import Choices, Passage
from simtrain.estimate.effects import effects
from simtrain.price.categories import CATEGORIES
from simtrain.search.treatment import StageCase, added, needed, solve
from simtrain.spec.memory_plan import MADE_AGAIN, Treatment
from simtrain.spec.memory_policy import ACTIONS, Policy, Rule, free
from simtrain.spec.tensors import TENSORS, TensorName

GAP = 1 + 1e-4
"""The solver's own tolerance, and what a treated tensor costs beyond its seconds."""


def case(seed: int, layers: int, used: tuple[TensorName, ...] = TENSORS, room: float = 0.5) -> StageCase:
    """Random sizes and seconds; `room`: share of everything kept."""
    draw = np.random.default_rng(seed)
    there = np.array([name in used and name not in ("head", "loss") for name in TENSORS])
    layer = draw.uniform(0.05, 1.0, len(TENSORS)) * there
    size = layers * layer
    again = draw.uniform(0.01, 0.5, len(TENSORS)) * layers * there
    in_flight = float(draw.integers(1, 9))
    taken = [np.array([share * float(again.sum())]) for share in draw.uniform(0.0, 0.5, 4)]
    of = Choices(
        size=size[:, None],
        layer=layer[:, None],
        again=np.repeat(again[:, None, None] / len(CATEGORIES), len(CATEGORIES), axis=1),
        flops=np.zeros((len(TENSORS), 1)),
        narrowed=0.02 * size[:, None],
        layers=np.array([float(layers)]),
        ratio=np.full(len(TENSORS), 0.52),
        passages=tuple(
            Passage(draw.uniform(0.05, 0.5), draw.uniform(0.05, 0.5), taken[2 * number], taken[2 * number + 1])
            for number in range(1 + seed % 5 // 4)
        ),
        whole=layer[:, None] * draw.uniform(0.0, 0.5),
        chunk=np.array([0.02 * float(again.sum())]),
        loss=(0.0, 0.0, 0.0),
        loss_chunk=0.0,
    )
    return StageCase(
        layers=layers,
        size=size,
        effects=effects(of, 1 + 2 * (seed % 7 == 6)),
        passages=of.passages,
        passes=(float(again.sum()), 2 * float(again.sum())),
        wait=draw.uniform(0.0, 0.2) * float(again.sum()),
        in_flight=in_flight,
        room=room * in_flight * float(size.sum()),
        away_room=draw.uniform(0.0, 1.0) * in_flight * float(size.sum()),
    )


def fits(of: StageCase, tensors: dict[TensorName, Treatment]) -> bool:
    gone = sum(how.offload / of.layers * of.size[TENSORS.index(name)] for name, how in tensors.items())
    return needed(of, tensors) <= of.room + 1e-9 and of.in_flight * gone <= of.away_room + 1e-9


def plain(of: StageCase) -> list[dict[TensorName, Treatment]]:
    """None, selective (core attention), full, and full for k layers."""
    full = [{name: Treatment(recompute=k) for name in MADE_AGAIN} for k in range(1, of.layers + 1)]
    return [{}, {"attention": Treatment(recompute=of.layers)}, *full]


@pytest.mark.parametrize("seed", range(200))
def test_never_worse_than_none_selective_full_or_full_for_some_layers(seed: int) -> None:
    of = case(seed, layers=1 + seed % 24, room=0.15 + 0.9 * (seed % 17) / 17)
    possible = [sum(added(of, tensors)) for tensors in plain(of) if fits(of, tensors)]
    for allowed in (("recompute",), ACTIONS):
        found = solve(of, free(allowed))
        if found is None:
            assert not possible
            continue
        assert fits(of, found.tensors)
        if possible:
            assert sum(found.added) <= min(possible) + GAP * 1e-4 * sum(of.passes)


@pytest.mark.parametrize("seed", range(40))
def test_equals_trying_everything_on_small_cases(seed: int) -> None:
    of = case(seed, layers=2, used=("normed", "attention", "expanded"), room=0.3 + 0.6 * (seed % 10) / 10)
    ways = [
        Treatment(recompute=r, offload=o, quantise=q)
        for r, o, q in product(range(3), repeat=3)
        if r + o + q <= of.layers
    ]
    every = (dict(zip(("normed", "attention", "expanded"), chosen, strict=True)) for chosen in product(ways, repeat=3))
    best = min((sum(added(of, tensors)) for tensors in every if fits(of, tensors)), default=None)
    found = solve(of, free(ACTIONS))
    if best is None:
        assert found is None
    else:
        assert found is not None
        assert sum(found.added) == pytest.approx(best, rel=1e-4, abs=1e-5 * sum(of.passes))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.2, 0.9), st.floats(0.0, 0.5))
def test_more_memory_never_costs_time(seed: int, room: float, more: float) -> None:
    lean, roomy = (solve(case(seed, 6, room=share), free(ACTIONS)) for share in (room, room + more))
    if lean is not None:
        assert roomy is not None
        assert sum(roomy.added) <= sum(lean.added) + 1e-5 * sum(case(seed, 6).passes)


def test_what_is_not_allowed_is_not_done() -> None:
    of = case(3, 8, room=0.8)
    assert all(not how.offload and not how.quantise for how in solve(of, free(("recompute",))).tensors.values())
    assert all(not how.recompute for how in solve(of, free(("cpu", "quantise"))).tensors.values())
    assert solve(of, free(())) is None
    assert solve(case(3, 8, room=1.0), free(())).tensors == {}


def test_a_stage_without_layers_fits_or_does_not() -> None:
    empty = replace(case(3, 8), layers=0, size=np.zeros(len(TENSORS)), room=1.0)
    assert solve(empty, free(ACTIONS)).tensors == {}
    assert solve(replace(empty, room=-1.0), free(ACTIONS)) is None


def test_a_full_host_keeps_tensors_here() -> None:
    of = replace(case(5, 8, room=0.6), away_room=0.0)
    assert all(not how.offload for how in solve(of, free(ACTIONS)).tensors.values())


def test_what_a_policy_always_does_is_done_in_every_layer() -> None:
    always = Rule(may=("offload", "recompute"), always=True)
    policy = Policy(name="some", title="", source="", tensors={"expanded": always})
    found = solve(case(9, 8, room=2.0), policy)
    assert set(found.tensors) == {"expanded"}
    assert found.tensors["expanded"].layers == 8
