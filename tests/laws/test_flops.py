"""Model FLOP against published formulas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simtrain.laws.flops import training_flops

SIZES = st.integers(1, 2**14)


@given(SIZES, SIZES, SIZES, SIZES)
def test_megatron_formula(layers: int, hidden: int, sequence: int, vocabulary: int) -> None:
    """72 s l h^2 (1 + s/(6h) + V/(12 l h)): Narayanan et al. (arXiv 2104.04473) equation 3 without recomputation."""
    expected = 72 * sequence * layers * hidden**2 * (1 + sequence / (6 * hidden) + vocabulary / (12 * layers * hidden))
    weights = 12 * layers * hidden**2 + vocabulary * hidden
    assert training_flops(weights, layers * hidden, sequence, causal=False) == pytest.approx(expected)


@given(SIZES, SIZES, SIZES)
def test_frozen_weights_lose_their_gradient_only(weights: int, width: int, sequence: int) -> None:
    """4 N s for 6 N s: what Megatron-Bridge counts in a LoRA step (sources.json); attention is unchanged."""
    trained = training_flops(weights, width, sequence, causal=True)
    frozen = training_flops(weights, width, sequence, causal=True, frozen=weights)
    assert trained - frozen == pytest.approx(2 * weights * sequence)


@given(SIZES, SIZES, SIZES)
def test_the_mask_halves_attention_only(weights: int, width: int, sequence: int) -> None:
    full, half = (training_flops(weights, width, sequence, causal) for causal in (False, True))
    assert full - half == pytest.approx(6 * width * sequence**2)
