"""Collectives on a network: which source answers, where groups lie, how adapters are shared."""

import csv
import dataclasses
import time

import numpy as np
import pytest

from simtrain.errors import WrongInput
from simtrain.price.collectives import KINDS, Group, collective_seconds, group, network
from simtrain.price.tuner import law_seconds
from simtrain.price.tuning import measured
from simtrain.spec import load
from simtrain.spec.library import path_of

NODES = {"dgx-a100": "a100-sxm-80gb", "dgx-h100": "h100-sxm-80gb", "hgx-h200": "h200-sxm-141gb"} | {
    "dgx-b200": "b200-sxm-180gb",
    "gb200-nvl72": "gb200",
    "l40s-8x": "l40s",
}


@pytest.fixture(scope="module")
def dgx():
    return network(load.cluster("dgx-h100"), 8)


def of(members, local):
    return Group(np.array(float(members)), np.array(float(local)))


def one(net, kind, size, members, local):
    return collective_seconds(net, kind, size, of(members, local)).seconds.item()


@pytest.mark.parametrize(("cluster", "folder"), NODES.items())
def test_every_measured_row_is_reproduced(cluster, folder):
    net = network(load.cluster(cluster), 8)
    with path_of("profiles", "devices", folder, "collective.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in {row["collective"] for row in rows}:
        chosen = [row for row in rows if row["collective"] == name]
        size, members, expected = (np.array([float(row[key]) for row in chosen]) for key in ("bytes", "gpus", "time_s"))
        kind = "all_to_all" if name == "alltoall" else name
        timed = collective_seconds(net, kind, size, Group(members, members))
        assert timed.seconds == pytest.approx(expected, rel=1e-9)
        assert (timed.measured == 1).all()


def test_every_measured_device_has_its_curve_and_a_cluster_here():
    assert set(measured().devices) == set(NODES.values())
    for folder in measured().devices:
        assert path_of("profiles", "devices", folder, "collective.csv").is_file()


def test_between_rows_the_curve_is_interpolated_and_beyond_them_continued_by_the_law(dgx):
    size = 2.0**20
    low, middle, high = (one(dgx, "all_gather", size, n, n) for n in (4, 6, 8))
    assert low < middle < high
    edge = one(dgx, "all_gather", 2.0**29, 8, 8)
    eight, sixteen = np.array([2.0**29]), np.array([2.0**33])
    ranks = np.array([8.0])
    ratio = law_seconds(dgx, "all_gather", sixteen, ranks, ranks) / law_seconds(dgx, "all_gather", eight, ranks, ranks)
    beyond = collective_seconds(dgx, "all_gather", 2.0**33, of(8, 8))
    assert beyond.seconds.item() == pytest.approx(edge * ratio.item())
    assert beyond.measured.item() == 0


def test_evidence_is_told_apart_in_one_call(dgx):
    ranks = Group(np.array([8.0, 16.0, 1.0, 8.0]), np.array([8.0, 8.0, 1.0, 1.0]))
    timed = collective_seconds(dgx, "all_reduce", 1e6, ranks)
    assert timed.measured.tolist() == [1, 0, 0, 0]
    assert timed.seconds[2] == 0
    alone = [one(dgx, "all_reduce", 1e6, m, k) for m, k in zip(ranks.members, ranks.local, strict=True)]
    assert timed.seconds == pytest.approx(alone)


def test_shapes_broadcast(dgx):
    ranks = group(np.array([2, 8, 64]), 1, 8)
    assert collective_seconds(dgx, "reduce_scatter", np.full((4, 1), 1e6), ranks).seconds.shape == (4, 3)
    assert collective_seconds(dgx, "all_to_all", 1e6, of(8, 8)).seconds.shape == ()


def test_an_empty_message_costs_nothing(dgx):
    assert one(dgx, "all_gather", 0.0, 8, 8) == 0


@pytest.mark.parametrize(
    ("degree", "stride", "domain", "local"),
    [
        (8, 1, 8, 8),
        (16, 1, 8, 8),
        (2, 2, 8, 2),
        (16, 2, 8, 4),
        (4, 8, 8, 1),
        (4, 64, 8, 1),
        (1, 4, 8, 1),
        (8, 1, 72, 8),
        (6, 1, 8, 2),
        (16, 1, 72, 8),
        (8, 3, 8, 2),
        (3, 8, 8, 1),
    ],
)
def test_members_in_a_domain(degree, stride, domain, local):
    ranks = group(degree, stride, domain)
    assert ranks.local == local
    assert ranks.members == degree


@pytest.mark.parametrize("domain", [4, 8, 72])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("degree", [1, 2, 3, 4, 6, 8, 12, 16])
def test_no_group_of_the_mesh_lies_in_more_domains_than_assumed(degree, stride, domain):
    world = np.lcm(degree * stride, domain)
    meshes = np.arange(world).reshape(-1, degree, stride).swapaxes(1, 2).reshape(-1, degree)
    spanned = max(len(np.unique(ranks // domain)) for ranks in meshes)
    local = group(degree, stride, domain).local
    assert degree % local == 0
    assert spanned <= degree / local


def test_adapters_are_shared_by_the_groups_of_a_node(dgx):
    """Eight groups of one member a node move as many bytes as one group of eight: each has an eighth of the rate."""
    size = 8 * 2.0**33
    whole, part = one(dgx, "all_gather", size, 32, 8), one(dgx, "all_gather", size, 4, 1)
    assert part / whole == pytest.approx(8 * (3 / 4) / (31 / 32) * 368 / 370.8, rel=0.03)


def test_more_devices_than_adapters_share_them():
    assert network(load.cluster("gb200-nvl72"), 72).adapter == pytest.approx(50e9)
    cluster = load.cluster("dgx-h100")
    fewer = cluster.node.model_copy(update={"nic": cluster.node.nic.model_copy(update={"count": 4})})
    assert network(cluster.model_copy(update={"node": fewer}), 8).adapter == network(cluster, 8).adapter / 2


def test_oversubscription_counts_beyond_the_pod_only(dgx):
    thin = dataclasses.replace(dgx, oversubscription=4.0, pod_domains=32.0)
    for kind in KINDS[:4]:
        assert one(thin, kind, 2.0**32, 256, 8) == one(dgx, kind, 2.0**32, 256, 8)
        assert one(thin, kind, 2.0**36, 512, 8) / one(dgx, kind, 2.0**36, 512, 8) == pytest.approx(4, rel=0.02)


def test_slower_links_of_the_same_chip_do_not_use_its_curves(dgx):
    cut = network(load.cluster("hgx-h800"), 8)
    assert not cut.curves
    assert cut.link == dgx.link
    timed = collective_seconds(cut, "all_gather", 2.0**29, of(8, 8))
    assert timed.measured.item() == 0
    assert timed.seconds.item() / one(dgx, "all_gather", 2.0**29, 8, 8) == pytest.approx(450 / 200, rel=0.15)


def test_a_folder_that_is_not_there_leaves_the_law():
    assert not network(load.cluster("dgx-h100"), 8, "no-such-device").curves


def test_a_mesh_of_links_gives_a_pair_one_of_them():
    mesh = network(load.cluster("mi300x-8x"), 8)
    pair, all_eight = (2 * (n - 1) / n * 1e11 / one(mesh, "all_reduce", 1e11, n, n) for n in (2, 8))
    assert all_eight / pair == pytest.approx(7, rel=0.01)


def test_switches_reduce_only_from_enough_members_on():
    net = dataclasses.replace(network(load.cluster("hgx-h200"), 8), curves={})
    plain = dataclasses.replace(net, multicast=False)
    size = 2.0**33
    assert one(net, "all_reduce", size, 4, 4) == one(plain, "all_reduce", size, 4, 4)
    assert one(net, "all_reduce", size, 8, 8) < 0.85 * one(plain, "all_reduce", size, 8, 8)
    assert one(net, "all_gather", 2.0**33, 8, 8) == one(plain, "all_gather", 2.0**33, 8, 8)


def test_a_slow_fabric_costs_small_messages(dgx):
    elastic = dataclasses.replace(dgx, fabric_latency=15e-6)
    assert one(elastic, "all_reduce", 1e3, 32, 8) - one(dgx, "all_reduce", 1e3, 32, 8) == pytest.approx(
        300e-6, rel=0.01
    )
    assert one(elastic, "all_reduce", 1e3, 8, 8) == one(dgx, "all_reduce", 1e3, 8, 8)


def test_an_unknown_kind_of_link_names_the_nearest():
    cluster = load.cluster("dgx-h100")
    scaleup = cluster.node.scaleup.model_copy(update={"kind": "xgmi"})
    node = cluster.node.model_copy(update={"scaleup": scaleup})
    with pytest.raises(WrongInput, match="has no rate"):
        network(cluster.model_copy(update={"node": node}), 8)


def test_an_unknown_collective_is_refused(dgx):
    with pytest.raises(ValueError, match="gossip"):
        collective_seconds(dgx, "gossip", 1e6, of(8, 8))


def test_a_broadcast_passes_every_rank(dgx):
    """The message once over the wire, and a hop for every further rank: a hundred small ones wait for hops."""
    near, far = (float(collective_seconds(dgx, "broadcast", 2**26, of(members, 8)).seconds) for members in (64, 128))
    size = 2**26 / (8 * 0.92 * dgx.adapter)
    assert near > size
    assert far - size == pytest.approx(2 * (near - size), rel=0.15)


def test_many_plans_are_cheap(dgx):
    """Ten times the aim of benchmarks/test_prices.py."""
    random = np.random.default_rng(0)
    size = 2 ** random.uniform(8, 34, 10_000)
    ranks = group(2 ** random.integers(0, 8, 10_000), 2 ** random.integers(0, 6, 10_000), 8)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        collective_seconds(dgx, "all_reduce", size, ranks)
        best = min(best, time.perf_counter() - start)
    assert best < 0.2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("members", "local"), [(8, 8), (32, 8)])
def test_half_the_latency_is_half_of_an_empty_message(dgx, kind, members, local):
    quicker = dataclasses.replace(dgx, latency=0.5)
    saved = [
        one(dgx, kind, size, members, local) - one(quicker, kind, size, members, local) for size in (1, 2**20, 2**30)
    ]
    assert saved == pytest.approx([one(dgx, kind, 1, members, local) / 2] * 3)
    assert one(quicker, kind, 0, members, local) == 0
