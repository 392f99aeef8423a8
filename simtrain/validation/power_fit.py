"""The power law fitted on the measured profiles: `python -m simtrain.validation.power_fit` prints the numbers."""

import numpy as np

from simtrain.laws.power import drawn_share
from simtrain.price.categories import CATEGORIES
from simtrain.price.power_law import law_curve
from simtrain.price.power_profile import power_profile, shipped
from simtrain.spec.load import device

PLATEAU = 0.98
"""Share of the largest power from which a pass may run at the board's limit instead of its clock."""


def fitted(name: str) -> dict[str, float]:
    """Floor, slope and full power of a device's law, least squares over all its profiles' points below the plateau."""
    from scipy.optimize import least_squares

    described = device(name)
    ratio, power = [], []
    for profile in (power_profile(key) for key, about in shipped().items() if about.device == name):
        for curve in (c for stage in profile.curves for c in stage):
            watts = curve.joules / curve.seconds
            below = watts < PLATEAU * watts.max()
            ratio.append(curve.clock[below] / curve.clock.max())
            power.append(watts[below])
    assert described.idle_power is not None
    blocking, limit = described.idle_power.value, described.power_limit.value
    at, watts = np.concatenate(ratio), np.concatenate(power)

    def off(found: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        floor, slope, full = found
        law = blocking + (full * limit - blocking) * drawn_share(at, float(floor), float(slope))
        return np.asarray(law / watts - 1)

    best = least_squares(off, (0.8, 0.8, 1.2), bounds=([0.1, 0.0, 0.5], [1.0, 1.0, 3.0]))
    floor, slope, full = best.x
    return {"floor": floor, "slope": slope, "full": full, "error": float(np.abs(off(best.x)).mean())}


def off_by(name: str, unknown: bool = False) -> float:
    """Share by which nine of ten points of a device's profiles differ from its law, of power or joules, the larger.

    `unknown`: from the law it would have had without a profile. Passes are taken as all matmul.
    """
    described = device(name)
    law_of = described.model_copy(update={"name": "unknown"}) if unknown else described
    share = np.eye(len(CATEGORIES))[CATEGORIES.index("matmul")]
    power, joules = [], []
    for profile in (power_profile(key) for key, about in shipped().items() if about.device == name):
        for curve in (c for stage in profile.curves for c in stage):
            law = law_curve(law_of, share * curve.seconds[curve.clock.argmax()])
            at = np.argsort(law.clock)
            seconds, drawn = (np.interp(curve.clock, law.clock[at], of[at]) for of in (law.seconds, law.joules))
            power.append(np.abs(drawn / seconds / (curve.joules / curve.seconds) - 1))
            joules.append(np.abs(drawn / curve.joules - 1))
    return float(max(np.quantile(np.concatenate(part), 0.9) for part in (power, joules)))


if __name__ == "__main__":
    for key in sorted({about.device for about in shipped().values()}):
        print(key, fitted(key), off_by(key), off_by(key, unknown=True))
