"""What the shipped calibration reaches on the published runs: bands of accuracy.toml, which only tighten.

Errors here are in sample; those of sweeps left out of the fit are what `simtrain calibrate` prints and the README
states.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from simtrain.validation.corpus import corpus
from simtrain.validation.score import score
from simtrain.validation.summary import summary

BANDS: dict[str, dict[str, float]] = tomllib.loads((Path(__file__).parent / "accuracy.toml").read_text())
LARGER_IS_BETTER = {"rank", "oom_accuracy", "coverage", "interval_coverage"}
CASES = [(source, figure, band) for source, figures in BANDS.items() for figure, band in figures.items()]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Figures by source, and of all."""
    result = summary(score(corpus(None)))
    return {**result["sources"], "all": result["all"]}


@pytest.mark.parametrize(("source", "figure", "band"), CASES)
def test_accuracy_stays_within_its_band(found: dict[str, Any], source: str, figure: str, band: float) -> None:
    value: Any = found[source]
    for part in figure.split("."):
        value = value[part]
    if figure.split(".")[-1] in LARGER_IS_BETTER | {"accuracy"}:
        assert value >= band
    else:
        assert value <= band


def test_every_source_has_a_band(found: dict[str, Any]) -> None:
    assert set(found) == set(BANDS)
