"""How wide a step-time interval is, from the evidence its seconds rest on. Data: profiles/uncertainty.toml."""

import functools

import numpy as np
from numpy.typing import NDArray

from simtrain.spec.base import Evidence
from simtrain.spec.library import path_of, read_toml


@functools.cache
def _widths() -> dict[str, float]:
    data = read_toml(path_of("profiles", "uncertainty.toml"))
    return {grade: float(entry["relative_width"]) for grade, entry in data.items()}


def relative_width(measured: NDArray[np.float64], device: Evidence) -> NDArray[np.float64]:
    """Half width of the interval over the step time (1), shape of `measured` (share of measured seconds, 0 to 1).

    The rest of the time rests on laws: fitted ones if the `device` was measured at all, assumed ones if not.
    """
    widths = _widths()
    law = widths["law"] if device is not Evidence.ASSUMED else widths["assumed"]
    return measured * widths["measured"] + (1 - measured) * law
