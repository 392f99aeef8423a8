"""How wide a step-time interval is: from the errors of unseen runs where there were some, else from the evidence."""

import functools

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.base import Evidence
from simtrain.spec.calibration import DEFAULT, LeftOut
from simtrain.spec.library import path_of, read_toml


@functools.cache
def _widths() -> dict[str, float]:
    data = read_toml(path_of("profiles", "uncertainty.toml"))
    return {grade: float(entry["relative_width"]) for grade, entry in data.items()}


def relative_width(
    measured: NDArray[np.float64], device: Evidence, seen: tuple[LeftOut, str] | None = None
) -> NDArray[np.float64]:
    """Width w of the interval [t / (1 + w), t (1 + w)] (1), shape of `measured` (share of measured seconds, 0 to 1).

    Where runs of the stack or the device were `seen`, w holds 90 % of those left out of the fit. Else it follows the
    evidence (profiles/uncertainty.toml): what is not measured rests on laws, fitted ones if the `device` was measured
    at all, assumed ones if not. Errors of other stacks and devices, and any errors on a device whose
    kernels nobody measured, only ever widen that.
    """
    widths = _widths()
    law = widths["law"] if device is not Evidence.ASSUMED else widths["assumed"]
    evidence = measured * widths["measured"] + (1 - measured) * law
    if seen is None:
        return evidence
    errors, of = seen
    if of == DEFAULT or device is Evidence.ASSUMED:
        return np.maximum(evidence, errors.p90)
    return np.full_like(evidence, errors.p90)
