"""When to start a run so that its energy is cleanest, by a series of the grid's hourly carbon intensity."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput
from simtrain.units import KNOWN

Array = NDArray[np.float64]
HOUR: Final = 3600.0


def read_series(path: Path) -> Array:
    """Grams of CO2e a kWh, a line an hour, as kg a joule; WrongInput names the lines that are none."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(
            [Problem("--hourly", str(path), f"cannot be read: {getattr(error, 'strerror', 'it is not UTF-8 text')}")]
        ) from None
    problems, values = [], []
    for number, line in enumerate(lines, start=1):
        try:
            value = float(line)
        except ValueError:
            value = -1.0
        if not 0 <= value < np.inf:
            problems.append(Problem(f"{path}: line {number}", line, "is not a number of at least 0"))
        values.append(value)
    if problems or not values:
        raise WrongInput(problems or [Problem("--hourly", str(path), "holds no number")])
    return np.array(values) * KNOWN["kg/J"]["g/kWh"]


def cleanest_start(intensity: Array, seconds: float) -> tuple[int, float, float]:
    """The hour at which a run of constant power is cleanest: hour, its mean intensity, that of a start at once.

    `intensity`: kg CO2e a joule, hour by hour. WrongInput where the series is shorter than the run.
    """
    hours = seconds / HOUR
    if hours > len(intensity):
        rule = f"holds {len(intensity)} hours, the run takes {hours:.0f}"
        raise WrongInput([Problem("--hourly", None, rule, "give a longer series")])
    total = np.concatenate([[0.0], np.cumsum(intensity)])
    starts = np.arange(int(len(intensity) - hours) + 1)
    mean = (np.interp(starts + hours, np.arange(len(total)), total) - total[starts]) / hours
    best = int(mean.argmin())
    return best, float(mean[best]), float(mean[0])
