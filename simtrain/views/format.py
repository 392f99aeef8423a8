"""Numbers for people. The only place that turns SI floats into units."""

GIB = 2.0**30


def gib(size: float) -> str:
    """Device memory in GiB."""
    return f"{size / GIB:,.1f} GiB"


def seconds(value: float) -> str:
    """A duration with the unit that reads best."""
    if value >= 100 * 3600 * 24:
        return f"{value / 86400:,.0f} days"
    if value >= 48 * 3600:
        return f"{value / 86400:.1f} days"
    if value >= 2 * 3600:
        return f"{value / 3600:.1f} h"
    if value >= 300:
        return f"{value / 60:.1f} min"
    if value >= 0.9995:
        return f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms"


def money(value: float | None) -> str:
    """US dollars, or a dash when no price is known."""
    if value is None:
        return "-"
    if value >= 1e6:
        return f"${value / 1e6:,.2f} M"
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:.2f}" if value >= 0.1 else f"${value:.2g}"


def count(value: float) -> str:
    """A large count in words of three digits."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def kilowatts(power: float) -> str:
    """Of many devices."""
    return f"{power / 1e3:,.4g} kW"


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{round(100 * share, 1) + 0.0:.1f} %"


def quantity(value: float, unit: str) -> str:
    """A device figure in its customary unit."""
    scale, shown = {
        "B/s": (1e9, "GB/s"),
        "FLOP/s": (1e12, "TFLOP/s"),
        "B": (GIB, "GiB"),
        "W": (1.0, "W"),
        "Hz": (1e6, "MHz"),
        "s": (1e-6, "us"),
        "USD/s": (1 / 3600, "USD/h"),
        "kg/J": (1e-3 / 3.6e6, "g/kWh"),
    }.get(unit, (1.0, unit))
    return f"{value / scale:,.4g} {shown}".strip()
