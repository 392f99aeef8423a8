"""Properties of the collective laws: dimensions, identities, and what may never get faster."""

import dataclasses

import numpy as np
import pint
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simtrain.laws import collectives as laws
from simtrain.price.collectives import KINDS, Group, collective_seconds, network
from simtrain.spec import load

DGX = dataclasses.replace(network(load.cluster("dgx-h100"), 8), curves={})
ETHERNET = dataclasses.replace(network(load.cluster("p6-b200"), 8), curves={})
MESH = network(load.cluster("mi300x-8x"), 8)
NETWORKS = st.sampled_from([DGX, ETHERNET, MESH])
SIZES = st.floats(1.0, 1e12)
GROUPS = st.one_of(
    st.integers(2, 8).map(lambda n: Group(np.array(float(n)), np.array(float(n)))),
    st.tuples(st.integers(1, 8), st.integers(2, 600)).map(
        lambda pair: Group(np.array(float(pair[0] * pair[1])), np.array(float(pair[0])))
    ),
)
TOLERANCE = 1 + 1e-9


def seconds(net, kind, size, group):
    return collective_seconds(net, kind, size, group).seconds.item()


def dimensioned():
    registry = pint.UnitRegistry()
    registry.define("payload = [data]")
    return registry.payload * np.array([4e6, 8e9]), registry.second, registry.payload / registry.second


def test_laws_return_seconds():
    size, second, rate = dimensioned()
    us, fast, slow = 1e-6 * second, 4e11 * rate, 5e10 * rate
    results = [
        laws.ring(size, 32, 4, 2, 6 * us, us, 3 * us, fast),
        laws.tree(size, 8, 4, 6 * us, us, 3 * us, fast),
        laws.switch(size, 25 * us, fast),
        laws.switch_tree(size, 4, 25 * us, 20 * us, fast, slow),
        laws.pat(size, 32, 8 * us, 14 * us, 3 * us, slow),
        laws.pipeline_fill(size, 8e6 * size.units, slow),
        laws.hierarchical(size, 8, 4, us, 14 * us, fast, slow),
        laws.all_to_all(size, 32, 8, 6 * us, us, fast, slow),
        laws.all_to_all_on_rails(size, 32, 8, 6 * us, us, fast, slow),
        laws.point_to_point(size, 5 * us, slow),
    ]
    for result in results:
        assert result.check("[time]")
        assert (result.magnitude > 0).all()


def test_a_dimension_error_is_noticed():
    size, second, rate = dimensioned()
    with pytest.raises(pint.DimensionalityError):
        laws.switch(size, 1 * second, 1 / rate)


@given(NETWORKS, st.sampled_from(KINDS), GROUPS, SIZES, st.floats(1.0, 1e3))
def test_more_bytes_are_never_faster(net, kind, group, size, factor):
    assert seconds(net, kind, size * factor, group) * TOLERANCE >= seconds(net, kind, size, group)


@given(NETWORKS, st.sampled_from(KINDS), GROUPS, SIZES, st.floats(1.0, 10.0), st.floats(1.0, 10.0))
def test_more_bandwidth_is_never_slower(net, kind, group, size, links, adapters):
    faster = dataclasses.replace(net, rate=net.rate * links, adapter=net.adapter * adapters)
    assert seconds(faster, kind, size, group) <= seconds(net, kind, size, group) * TOLERANCE


@given(NETWORKS, st.sampled_from(KINDS), GROUPS, SIZES, st.floats(0.0, 1e-3))
def test_a_slower_fabric_is_never_faster(net, kind, group, size, extra):
    slower = dataclasses.replace(net, fabric_latency=net.fabric_latency + extra)
    assert seconds(slower, kind, size, group) * TOLERANCE >= seconds(net, kind, size, group)


@given(NETWORKS, st.sampled_from(KINDS), SIZES)
def test_one_member_is_free(net, kind, size):
    timed = collective_seconds(net, kind, size, Group(np.ones(3), np.ones(3)))
    assert (timed.seconds == 0).all()
    assert (timed.measured == 0).all()


@given(SIZES, st.integers(2, 512), st.integers(1, 64))
def test_a_ring_all_reduce_is_a_reduce_scatter_and_an_all_gather(size, members, domains):
    numbers = (members, min(domains, members))
    both = laws.ring(np.array(size), *numbers, 2, 0.0, 1e-6, 3e-6, 3e11)
    one = laws.ring(np.array(size), *numbers, 1, 0.0, 1e-6, 3e-6, 3e11)
    assert both == pytest.approx(2 * one)


@given(st.sampled_from([DGX, MESH]), GROUPS, st.floats(5e9, 1e13))
def test_a_large_all_reduce_takes_at_least_an_all_gather(net, group, size):
    """Where bandwidth decides: over hundreds of domains an all-reduce's tree saves more latency than it moves bytes."""
    assume(float(group.members) / float(group.local) <= 64)
    assert seconds(net, "all_reduce", size, group) * TOLERANCE >= seconds(net, "all_gather", size, group)


@given(SIZES, st.integers(2, 64), st.integers(2, 8))
def test_rails_never_beat_the_flat_exchange(size, domains, local):
    numbers = (np.array(size), domains * local, local, 6e-6, 2e-7, 3e11, 4e10)
    assert laws.all_to_all_on_rails(*numbers) >= laws.all_to_all(*numbers)


def test_a_hierarchy_on_one_domain_is_a_ring():
    size = np.array(1e9)
    flat = laws.ring(size, 8, 1, 2, 0.0, 1e-6, 9e-6, 3e11)
    assert laws.hierarchical(size, 8, 1, 1e-6, 9e-6, 3e11, 5e10) == pytest.approx(flat)


def test_a_ring_matches_its_textbook_form():
    assert laws.ring(np.array(8e9), 8, 1, 2, 5e-6, 1e-6, 0.0, 4e11) == pytest.approx(5e-6 + 14e-6 + 1.75 * 8e9 / 4e11)
    across = laws.ring(np.array(0.0), 32, 4, 2, 0.0, 1e-6, 10e-6, 4e11)
    assert across == pytest.approx(2 * (28e-6 + 3 * 10e-6))


def test_a_tree_moves_the_message_twice_and_grows_with_the_logarithm():
    levels = laws.tree(np.array(0.0), 1, np.array([2.0, 4.0, 512.0]), 0.0, 1e-6, 1e-5, 1e11)
    assert levels == pytest.approx([2e-5, 4e-5, 18e-5])
    assert laws.tree(np.array(1e9), 1, 2, 0.0, 0.0, 0.0, 1e11) == pytest.approx(0.02)


def test_rails_carry_leaving_bytes_inside_first():
    numbers = (np.array(3.2e9), 32, 8, 0.0, 0.0, 1e10, 1e12)
    assert laws.all_to_all(*numbers) == pytest.approx(0.07)
    assert laws.all_to_all_on_rails(*numbers) == pytest.approx(0.07 + 2.4e9 * 7 / 8 / 1e10)


def test_the_last_of_more_ranks_comes_later():
    """Expected maxima of 2, 4 and 8 standard normals are 0.564, 1.029 and 1.424 (Blom's approximation: 5 %)."""
    assert laws.spread(np.array([1.0, 2.0, 4.0, 8.0])) == pytest.approx([0.0, 0.564, 1.029, 1.424], rel=0.05)


@given(st.integers(1, 64), st.integers(1, 4096))
def test_destinations_are_no_more_than_copies_or_places(copies: int, places: int) -> None:
    found = float(laws.destinations(copies, places))
    assert 1 - 1e-9 <= found <= min(copies, places) * TOLERANCE
    assert float(laws.destinations(copies, 1)) == 1
    assert float(laws.destinations(1, places)) == pytest.approx(1)
    assert float(laws.destinations(copies, 10**9)) == pytest.approx(copies, rel=1e-4)
