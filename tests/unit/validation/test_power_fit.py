"""The power law's numbers are those of the fit."""

import pytest

from simtrain.price.power_law import power_law
from simtrain.spec.load import device
from simtrain.validation.power_fit import fitted


@pytest.mark.parametrize(("name", "error"), [("a100-sxm-80gb", 0.025), ("a40", 0.015)])
def test_laws_hold_what_the_fit_finds(name: str, error: float) -> None:
    found, law = fitted(name), power_law(device(name))
    assert found["error"] < error
    for key in ("floor", "slope", "full"):
        assert getattr(law, key) == pytest.approx(found[key], abs=2e-3)
