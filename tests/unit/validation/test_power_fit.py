"""The power law's numbers are those of the fit."""

import pytest

from simtrain.price.power_law import power_law
from simtrain.spec.load import device
from simtrain.validation.power_fit import fitted, off_by


@pytest.mark.parametrize(("name", "error"), [("a100-sxm-80gb", 0.025), ("a40", 0.015)])
def test_laws_hold_what_the_fit_finds(name: str, error: float) -> None:
    found, law = fitted(name), power_law(device(name))
    assert found["error"] < error
    for key in ("floor", "slope", "full"):
        assert getattr(law, key) == pytest.approx(found[key], abs=2e-3)


def test_laws_say_how_far_they_are_off() -> None:
    """That of devices without a profile is tried on those that have one."""
    names = ("a100-sxm-80gb", "a40")
    for name in names:
        assert power_law(device(name)).off == pytest.approx(off_by(name), abs=0.01)
    unknown = power_law(device("h100-sxm-80gb"))
    assert unknown.evidence == "assumed"
    assert unknown.off == pytest.approx(max(off_by(name, unknown=True) for name in names), abs=0.01)
