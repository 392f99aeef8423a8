"""Speed of prices: products from the measured table, all-reduces on a network of domains."""

import numpy as np
import pytest

from simtrain.price import kernels
from simtrain.price.collectives import collective_seconds, group, network
from simtrain.price.profile import profile
from simtrain.spec import load


@pytest.mark.parametrize(("count", "limit"), [(10, 300e-6), (100_000, 0.1)])
def test_products(benchmark, count: int, limit: float) -> None:
    """Kernels of one search, and of a hundred thousand plans."""
    loaded = profile(load.device("h100-sxm-80gb"))
    m, n, k = 2 ** np.random.default_rng(0).uniform(8, 15, (3, count))
    benchmark(kernels.matmul, loaded, "bf16", m, n, k)
    print(f"\n{count:,} products in {benchmark.stats.stats.min * 1e6:,.0f} us (aim {limit * 1e6:,.0f})")


def test_all_reduces(benchmark) -> None:
    """Of ten thousand sizes and groups."""
    random = np.random.default_rng(0)
    size = 2 ** random.uniform(8, 34, 10_000)
    ranks = group(2 ** random.integers(0, 8, 10_000), 2 ** random.integers(0, 6, 10_000), 8)
    benchmark(collective_seconds, network(load.cluster("dgx-h100"), 8), "all_reduce", size, ranks)
    print(f"\n10,000 all-reduces in {benchmark.stats.stats.min * 1e3:.1f} ms (aim 20)")
