"""Model FLOP of training one sequence: what MFU counts."""

from typing import Final

BACKWARD_FACTOR: Final = 3
"""Forward plus twice as much backward (Kaplan et al., arXiv 2001.08361 section 2.1)."""


def training_flops(
    matmul_parameters: float, attention_width: float, sequence: float, causal: bool, frozen: float = 0.0
) -> float:
    """FLOP of one sequence (FLOP): 6 N s + 12 L w s^2, the last term halved when counted under the causal mask.

    `matmul_parameters` N (1): weights a token is multiplied with, head included, lookups not.
    `attention_width` (1): sum over layers of heads x mean head size; `sequence` s (1): keys seen, when windowed, are
    folded into the width by the caller. PaLM (arXiv 2204.02311) appendix B; Megatron-LM's formula
    (arXiv 2104.04473 equation 3) is the same with N = 12 L h^2 and the head apart. `frozen` of the
    weights (1) have no gradient of their own, so they count 4 N s; adapters (arXiv 2106.09685) are not counted.
    """
    scores = 4 * attention_width * sequence**2
    products = BACKWARD_FACTOR * matmul_parameters - frozen
    return products * 2 * sequence + BACKWARD_FACTOR * (scores / 2 if causal else scores)
