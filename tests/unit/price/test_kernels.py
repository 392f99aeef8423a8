import time

import numpy as np
import pytest

from simtrain.price import kernels
from simtrain.price.profile import FOLDER, profile, profile_file
from simtrain.price.tables import columns, where
from simtrain.spec.library import path_of
from simtrain.spec.load import device

# Largest error allowed on rows not seen: law median, interpolated median. Measured, rounded up; tighten only.
MATMUL_BANDS = {
    ("a100-sxm-80gb", "bf16"): (0.045, 0.035),
    ("h100-sxm-80gb", "bf16"): (0.05, 0.02),
    ("h100-sxm-80gb", "fp8"): (0.145, 0.025),
    ("h200-sxm-141gb", "bf16"): (0.055, 0.02),
    ("h200-sxm-141gb", "fp8"): (0.125, 0.045),
    ("b200-sxm-180gb", "bf16"): (0.055, 0.03),
    ("b200-sxm-180gb", "fp8"): (0.16, 0.03),
    ("gb200", "bf16"): (0.065, 0.03),
    ("gb200", "fp8"): (0.155, 0.025),
    ("l40s", "bf16"): (0.07, 0.035),
    ("l40s", "fp8"): (0.16, 0.025),
}
ATTENTION_BANDS = {
    ("a100-sxm-80gb", 128): (0.065, 0.03),
    ("h100-sxm-80gb", 64): (0.035, 0.03),
    ("h100-sxm-80gb", 128): (0.095, 0.035),
    ("h200-sxm-141gb", 64): (0.115, 0.04),
    ("h200-sxm-141gb", 128): (0.08, 0.035),
    ("b200-sxm-180gb", 64): (0.03, 0.03),
    ("b200-sxm-180gb", 128): (0.055, 0.035),
    ("gb200", 64): (0.03, 0.025),
    ("gb200", 128): (0.07, 0.04),
    ("l40s", 64): (0.075, 0.025),
    ("l40s", 128): (0.08, 0.03),
}
TRAINED = [("a100-sxm-80gb", "flash-2"), ("h100-sxm-80gb", "flash-2"), ("h100-sxm-80gb", "flash-3")]


def published(name):
    return columns(path_of(FOLDER, name, "attention_training.csv"))


def shape_of(rows):
    return (rows["batch"], rows["seq"], rows["seq"], rows["heads"], rows["heads"], rows["head_dim"])


SPED_UP = {name: profile_file(name).matmul.speedup for name, _ in MATMUL_BANDS}
PRICED_BY_TABLE = [(name, format_) for name, format_ in MATMUL_BANDS if format_ not in SPED_UP[name]]


@pytest.mark.parametrize(("name", "datatype"), PRICED_BY_TABLE)
def test_measured_matmuls_are_returned(name, datatype):
    table = columns(path_of(FOLDER, name, "matmul.csv"))
    rows = where(table, table["dtype"] == datatype)
    timed = kernels.matmul(profile(device(name)), datatype, rows["m"], rows["n"], rows["k"])
    np.testing.assert_allclose(timed.seconds, rows["time_s"], rtol=1e-9)
    assert (timed.measured == 1).all()


@pytest.mark.parametrize(("name", "datatype"), MATMUL_BANDS)
def test_matmuls_not_seen_stay_in_their_band(name, datatype):
    law = profile_file(name).law.matmul[datatype]
    allowed = MATMUL_BANDS[name, datatype]
    assert law.median_error <= allowed[0]
    assert law.interpolated_median_error <= allowed[1]


# Products of a layer of 4096 x 16384 as NVIDIA's TransformerEngine times them, operands quantised before (its
# docs/examples/gemm_profiling): TFLOP/s of all passes on a B300 (peaks of the B200 but for fp4), m = 15872.
PUBLISHED_TRAINING = {"bf16": 1463, "fp8": 2814, "fp4": 5093}


@pytest.mark.parametrize("datatype", PUBLISHED_TRAINING)
def test_narrow_products_are_as_fast_as_published(datatype):
    shapes = np.array([(12288, 4096), (4096, 4096), (16384, 4096), (4096, 16384)])
    n, k = shapes.T
    known = profile(device("b200-sxm-180gb"))
    seconds = kernels.matmul(known, datatype, 15872, n, k).seconds
    reached = 2 * 15872 * (n * k).sum() / seconds.sum() / 1e12
    assert reached == pytest.approx(PUBLISHED_TRAINING[datatype], rel=0.08)


@pytest.mark.parametrize("name", ["h100-sxm-80gb", "gb200", "b300-sxm", "gb300"])
def test_narrow_products_keep_their_speedup_over_wide_ones(name):
    known = profile(device(name))
    shape = (8192, 8192, 28672)
    wide, narrow = (float(kernels.matmul(known, datatype, *shape).seconds) for datatype in ("bf16", "fp8"))
    assert wide / narrow == pytest.approx(profile_file(known.name).matmul.speedup["fp8"].value, rel=0.02)


@pytest.mark.parametrize(("name", "head_dim"), ATTENTION_BANDS)
def test_library_attention_not_seen_stays_in_its_band(name, head_dim):
    (law,) = (
        entry for entry in profile_file(name).law.attention if entry.kernel == "library" and entry.head_dim == head_dim
    )
    allowed = ATTENTION_BANDS[name, head_dim]
    assert law.median_error <= allowed[0]
    assert law.interpolated_median_error <= allowed[1]


@pytest.mark.parametrize("name", sorted({name for name, _ in ATTENTION_BANDS}))
def test_library_attention_follows_its_table(name):
    rows = columns(path_of(FOLDER, name, "attention_forward.csv"))
    batch, length, heads, kv_heads, head_dim = (
        rows[field] for field in ("batch", "seq", "heads", "kv_heads", "head_dim")
    )
    loaded = profile(device(name))
    timed = kernels.attention_forward(loaded, "library", batch, length, length, heads, kv_heads, head_dim)
    assert np.median(np.abs(timed.seconds / rows["time_s"] - 1)) < 0.04
    assert (timed.measured == 1).all()
    backward = kernels.attention_backward(loaded, "library", batch, length, length, heads, kv_heads, head_dim)
    assert (backward.measured == 0).all()


@pytest.mark.parametrize(("name", "kernel"), TRAINED)
@pytest.mark.parametrize("causal", [True, False])
def test_published_training_rates_are_returned(name, kernel, causal):
    table = published(name)
    rows = where(
        table,
        (table["kernel"] == kernel) & (table["causal"] == str(causal).lower()) & (table["pass"] != "backward"),
    )
    loaded = profile(device(name))
    there = kernels.attention_forward(loaded, kernel, *shape_of(rows), causal=causal)
    back = kernels.attention_backward(loaded, kernel, *shape_of(rows), causal=causal)
    both = rows["pass"] == "both"
    products = np.where(both, 14, 4) * (0.5 if causal else 1)
    flops = products * rows["batch"] * rows["seq"] ** 2 * rows["heads"] * rows["head_dim"]
    seconds = there.seconds + np.where(both, back.seconds, 0)
    np.testing.assert_allclose(flops / seconds, rows["flop_per_s"], rtol=1e-9)
    assert (there.measured == 1).all()
    assert (back.measured == both).all()


@pytest.mark.parametrize(("kernel", "band"), [("flash-2", 0.055), ("flash-3", 0.10)])
def test_the_published_backward_pass_is_met(kernel, band):
    """Full mask, 2k and longer: the ratio of rates was read off head size 128, and stands for every size and length."""
    table = published("h100-sxm-80gb")
    rows = where(table, (table["kernel"] == kernel) & (table["pass"] == "backward") & (table["seq"] >= 2048))
    timed = kernels.attention_backward(profile(device("h100-sxm-80gb")), kernel, *shape_of(rows), causal=False)
    flops = 10 * rows["batch"] * rows["seq"] ** 2 * rows["heads"] * rows["head_dim"]
    np.testing.assert_allclose(flops / timed.seconds, rows["flop_per_s"], rtol=band)


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "b200-sxm-180gb"])
def test_matmuls_far_outside_the_table_rest_on_the_law(name):
    loaded = profile(device(name))
    timed = kernels.matmul(loaded, "bf16", [256, 129, 127, 256], [512, 512, 512, 127], 512)
    assert timed.measured.tolist() == [1, 1, 0, 0]
    law = loaded.matmul_law("bf16")
    edge = kernels.matmul(loaded, "bf16", 256, 512, 512).seconds / law.seconds(256, 512, 512)
    assert timed.seconds[2] == pytest.approx(edge * law.seconds(127, 512, 512))


def test_formats_without_a_table_rest_on_the_law():
    loaded = profile(device("a100-sxm-80gb"))
    assert kernels.matmul(loaded, "tf32", 4096, 4096, 4096).measured == 0
    half, brain = (kernels.matmul(loaded, name, 4096, 4096, 4096) for name in ("fp16", "bf16"))
    assert half == brain


def test_assumed_devices_never_claim_measurements():
    loaded = profile(device("mi300x"))
    assert kernels.matmul(loaded, "bf16", 4096, 4096, 4096).measured == 0
    assert kernels.attention_forward(loaded, "flash-2", 1, 4096, 4096, 16, 16, 128).measured == 0
    assert kernels.memory_bound(profile(device("h100-sxm-80gb")), 1e9).measured == 0


def test_arguments_broadcast():
    loaded = profile(device("h100-sxm-80gb"))
    timed = kernels.matmul(loaded, "bf16", np.full((3, 1), 2048), np.array([1024, 4096]), 4096)
    assert timed.seconds.shape == timed.measured.shape == (3, 2)
    single = kernels.matmul(loaded, "bf16", 2048, 4096, 4096)
    assert single.seconds.shape == ()
    assert (timed.seconds[:, 1] == single.seconds).all()
    attention = kernels.attention_forward(loaded, "flash-3", np.ones((2, 1)), 4096, 4096, np.array([8, 16, 32]), 8, 128)
    assert attention.seconds.shape == (2, 3)


GROUPED = [
    ("b200-sxm-180gb", 0.49, 128, 4096, 7168, (0.208, 0.226), 0.0775, 0.1416),
    ("b200-sxm-180gb", 0.49, 512, 4096, 7168, (0.367, 0.405), 0.219, 0.289),
    ("b200-sxm-180gb", 0.49, 1024, 4096, 7168, (0.457, 0.435), 0.289, 0.347),
    ("b200-sxm-180gb", 0.49, 1232, 3072, 5120, (0.513, 0.422), 0.328, 0.385),
    ("b200-sxm-180gb", 0.49, 9832, 3072, 5120, (0.475, 0.476), 0.419, None),
    ("a100-sxm-80gb", 0.74, 616, 3072, 5120, (0.631, 0.679), 0.520, None),
    ("a100-sxm-80gb", 0.74, 1232, 3072, 5120, (0.707, 0.704), 0.604, None),
]
"""Share of the peak that Transformer Engine's grouped products reach by tokens an expert (MooreThreads/SimuMax
configs/system/b200_bf16_ceperm.json @e691807 and a100_pcie.json @3005b17, group_matmul), beside that of the same
machines' dense ones: forward and input gradient, and weight gradient accumulated in 4 and in 2 bytes."""


@pytest.mark.parametrize(("name", "dense", "rows", "n", "k", "ahead", "wide", "narrow"), GROUPED)
def test_grouped_products_lose_to_dense_ones_what_was_measured(
    name: str, dense: float, rows: int, n: int, k: int, ahead: tuple[float, float], wide: float, narrow: float | None
) -> None:
    loaded = profile(device(name))
    flops, weights = 2 * rows * n * k, n * k
    whole = 2 * 32768 * n * k / kernels.matmul(loaded, "bf16", 32768, n, k, queued=True).seconds

    def lost(m: int, n: int, k: int, moved: float) -> float:
        return float(flops / kernels.grouped_matmul(loaded, "bf16", m, n, k, 1, moved).seconds / whole)

    forward = (lost(rows, n, k, 2 * weights) + lost(rows, k, n, 2 * weights)) / 2
    assert forward == pytest.approx(sum(ahead) / 2 / dense, rel=0.3)
    assert lost(k, n, rows, 8 * weights) == pytest.approx(wide / dense, rel=0.3)
    if narrow is not None:
        assert lost(k, n, rows, 4 * weights) == pytest.approx(narrow / dense, rel=0.3)


def test_grouped_products_add_up() -> None:
    loaded = profile(device("h100-sxm-80gb"))
    one, eight = (kernels.grouped_matmul(loaded, "bf16", 2048, 4096, 4096, count, 3e7) for count in (1, 8))
    assert eight.seconds == pytest.approx(8 * one.seconds)
    assert eight.measured == 0
    alone = kernels.matmul(loaded, "bf16", 2048, 4096, 4096, queued=True).seconds
    moved = kernels.memory_bound(loaded, 3e7).seconds - loaded.memory_launch
    assert one.seconds == pytest.approx(max(alone, moved) + 0.5 * min(alone, moved))
    few = kernels.grouped_matmul(loaded, "bf16", 1, 4096, 4096, 256).seconds
    assert few > 256 * 4096 * 4096 * 2 / 3350e9


@pytest.mark.parametrize(
    ("name", "weight"), [("a100-sxm-80gb", 1.0), ("h100-sxm-80gb", 0.70 / 0.74), ("b200-sxm-180gb", 0.70 / 0.74)]
)
def test_the_backward_ratios_are_of_the_profile(name, weight):
    loaded = profile(device(name))
    assert loaded.backward_input_efficiency == pytest.approx(0.74 / 0.74)
    assert loaded.backward_weight_efficiency == pytest.approx(weight, abs=0.005)


def test_memory_bound_passes_run_at_the_achieved_bandwidth():
    seconds = kernels.memory_bound(profile(device("h100-sxm-80gb")), [0, 30e9]).seconds
    assert seconds[0] == 0
    assert 30e9 / seconds[1] == pytest.approx(0.89 * 3350e9, rel=0.001)


@pytest.mark.parametrize(("count", "limit"), [(10, 3e-3), (100_000, 1.0)])
def test_prices_are_quick(count, limit):
    """Ten times the aims of benchmarks/test_prices.py."""
    loaded = profile(device("h100-sxm-80gb"))
    m, n, k = 2 ** np.random.default_rng(0).uniform(8, 15, (3, count))
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        kernels.matmul(loaded, "bf16", m, n, k)
        spent.append(time.perf_counter() - start)
    assert min(spent) <= limit
