"""Published bubble ratios (share of a step a stage idles, messages free, T_B = 2 T_F), and what waves are worth by them
and by our own order."""

import pytest
from pipelines import costs

from simtrain.timeline.order import Order
from simtrain.timeline.schedules import gpipe, one_f_one_b, wave
from simtrain.timeline.step import step

GAIN = (1.05, 1.35)
"""Of Hanayo over Chimera; 1.304 at best (arXiv 2308.15762)."""


def flushed_bubble(stages: int, microbatches: int) -> float:
    """(p - 1)/(m + p - 1): GPipe (arXiv 1811.06965) and 1F1B (arXiv 2006.09503)."""
    return (stages - 1) / (microbatches + stages - 1)


def chimera_bubble(stages: int, microbatches: int) -> float:
    """(D - 2)/(3N/2 + D - 2): Chimera (arXiv 2107.06925), two pipelines of D stages that run against each other."""
    return (stages - 2) / (1.5 * microbatches + stages - 2)


def wave_bubble(stages: int, waves: int) -> float:
    """(2P - 2)/(3PW + P - 1): Hanayo (arXiv 2308.15762), P microbatches in W waves; read in notes on the paper.

    In backward passes of a chunk a stage's work is 3PW, and 2P - 2 is what timeline/schedules/wave.py leaves it idle;
    the published step is P - 1 shorter than both together.
    """
    return (2 * stages - 2) / (3 * stages * waves + stages - 1)


def replayed_bubble(order: Order) -> float:
    """Share of a step a stage idles, T_B = 2 T_F."""
    stages, chunks = order.place.shape
    return 1 - order.microbatches * chunks * 3 / step(order, costs(stages, chunks)).seconds


@pytest.mark.parametrize(("waves", "expected"), [(1, 0.4516), (2, 0.2545), (4, 0.1359)])
def test_published_ratio_of_waves(waves: int, expected: float) -> None:
    assert wave_bubble(8, waves) == pytest.approx(expected, abs=5e-5)


def test_published_order() -> None:
    """Hanayo of two waves, Chimera, 1F1B and GPipe, 8 microbatches on 8 stages."""
    ours, chimera, plain = (1 - ratio for ratio in (wave_bubble(8, 2), chimera_bubble(8, 8), flushed_bubble(8, 8)))
    assert ours > chimera > plain
    assert GAIN[0] < ours / chimera < GAIN[1]


def test_replayed_order() -> None:
    """The same of our orders; Chimera, which keeps the model twice, by its formula."""
    plain = [replayed_bubble(schedule.order(8, 1, 8)) for schedule in (one_f_one_b, gpipe)]
    assert plain == pytest.approx([flushed_bubble(8, 8)] * 2)
    ours, chimera = 1 - replayed_bubble(wave.order(8, 4, 8)), 1 - chimera_bubble(8, 8)
    assert ours > chimera > 1 - plain[0]
    assert GAIN[0] < ours / chimera < GAIN[1]


@pytest.mark.parametrize("stages", [2, 4, 8, 16])
@pytest.mark.parametrize("waves", [1, 2, 4])
def test_our_waves_idle_no_longer_than_published(stages: int, waves: int) -> None:
    """.368, .226 and .127 on eight stages."""
    found = replayed_bubble(wave.order(stages, 2 * waves, stages))
    assert found == pytest.approx((2 * stages - 2) / (3 * stages * waves + 2 * stages - 2))
    assert found < wave_bubble(stages, waves)
