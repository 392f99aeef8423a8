import numpy as np
import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.laws.kernels import attention_flops, attention_seconds, keys_seen, matmul_seconds, memory_seconds

units = pint.UnitRegistry(force_ndarray_like=False)
units.define("octet = [information]")
units.define("floating_operation = [work]")
OCTET, FLOP, SECOND = units.octet, units.floating_operation, units.second
NUMBERS = {
    "peak": 3e14,
    "ceiling": 0.8,
    "ramp_depth": 70.0,
    "bandwidth": 2e12,
    "bandwidth_efficiency": 0.8,
    "element_bytes": 2.0,
    "launch": 4e-6,
}
sizes = st.integers(1, 2**17).map(float)


# The law counts FLOP from plain sizes, so its peak is a count a second.
DIMENSIONED = NUMBERS | {
    "peak": 3e14 / SECOND,
    "bandwidth": 2e12 * OCTET / SECOND,
    "element_bytes": 2.0 * OCTET,
    "launch": 4e-6 * SECOND,
}


def test_matmul_seconds_are_seconds():
    seconds = matmul_seconds(4096.0, 1024.0, 2048.0, 3.0, **DIMENSIONED)
    assert seconds.check("[time]")
    assert seconds.to(SECOND).magnitude == pytest.approx(matmul_seconds(4096.0, 1024.0, 2048.0, 3.0, **NUMBERS))


def test_attention_seconds_are_seconds():
    seconds = attention_seconds(
        1e12 * FLOP,
        4096.0,
        512.0,
        peak=3e14 * FLOP / SECOND,
        ceiling=0.7,
        ramp_length=400.0,
        ramp_blocks=130.0,
        launch=4e-6 * SECOND,
    )
    assert seconds.check("[time]")
    assert seconds.to(SECOND).magnitude == pytest.approx(
        1e12 * (1 + 400 / 4096) * (1 + 130 / 512) / (0.7 * 3e14) + 4e-6
    )


def test_memory_seconds_are_seconds():
    seconds = memory_seconds(1e9 * OCTET, 2e12 * OCTET / SECOND, 0.5, 1e-6 * SECOND)
    assert seconds.check("[time]")
    assert seconds.to(SECOND).magnitude == pytest.approx(1e-3 + 1e-6)


def test_large_square_matmul_runs_at_the_ceiling():
    seconds = matmul_seconds(32768.0, 32768.0, 32768.0, 1.0, **NUMBERS)
    assert 2 * 32768.0**3 / seconds == pytest.approx(0.8 * 3e14, rel=0.003)


def test_one_row_runs_at_memory_speed():
    seconds = matmul_seconds(1.0, 8192.0, 8192.0, 1.0, **NUMBERS)
    assert seconds == pytest.approx(2 * (8192 + 8192**2 + 8192) / (0.8 * 2e12) + 4e-6)


@given(sizes, sizes, sizes, st.sampled_from("mnk"), st.integers(2, 8))
def test_a_larger_matmul_is_no_faster(m, n, k, grown, factor):
    shape = {"m": m, "n": n, "k": k}
    small = matmul_seconds(**shape, batch=1.0, **NUMBERS)
    assert matmul_seconds(**shape | {grown: shape[grown] * factor}, batch=1.0, **NUMBERS) >= small


@given(sizes, sizes, sizes, st.integers(2, 64))
def test_one_batched_launch_beats_many(m, n, k, batch):
    one = matmul_seconds(m, n, k, 1.0, **NUMBERS)
    together = matmul_seconds(m, n, k, float(batch), **NUMBERS)
    assert one <= together <= batch * one


@given(sizes, sizes, sizes, st.sampled_from(["peak", "bandwidth", "ceiling", "bandwidth_efficiency"]))
def test_faster_hardware_is_never_slower(m, n, k, better):
    faster = NUMBERS | {better: NUMBERS[better] * 1.25}
    assert matmul_seconds(m, n, k, 1.0, **faster) <= matmul_seconds(m, n, k, 1.0, **NUMBERS)


@given(sizes, sizes)
def test_keys_seen_equal_the_counted_mask(length, window):
    """Against the exact sum over positions 1..s of min(p, w), which the continuous mean meets to half a key."""
    assert keys_seen(length, window) == pytest.approx(np.minimum(np.arange(1, length + 1), window).mean(), abs=0.5)


@given(sizes)
def test_a_window_over_everything_is_no_window(length):
    assert keys_seen(length, length) == keys_seen(length) == length / 2


def test_causal_attention_counts_half():
    full = attention_flops(2.0, 4096.0, 4096.0, 16.0, 128.0, causal=False)
    assert full == 4 * 2 * 4096**2 * 16 * 128
    assert attention_flops(2.0, 4096.0, 4096.0, 16.0, 128.0, causal=True) == full / 2


@given(sizes, sizes, st.integers(2, 16))
def test_longer_keys_or_more_blocks_raise_the_rate(length, blocks, factor):
    numbers = {"peak": 3e14, "ceiling": 0.7, "ramp_length": 400.0, "ramp_blocks": 130.0, "launch": 0.0}
    seconds = attention_seconds(1e12, length, blocks, **numbers)
    assert attention_seconds(1e12, length * factor, blocks, **numbers) <= seconds
    assert attention_seconds(1e12, length, blocks * factor, **numbers) <= seconds
    assert seconds >= 1e12 / (0.7 * 3e14)


def test_nothing_moved_takes_no_time():
    assert memory_seconds(np.array([0.0, 1.0]), 1e12, 1.0, 1e-6).tolist() == [0.0, 1e-12 + 1e-6]
