"""Units: what a number means, and how a person may write it.

Inside the program every quantity is a plain float in SI base units; docstrings say which. Unit strings exist only in
TOML files and on the command line, and are read by `parse`.
"""

import math
import re
from decimal import Decimal

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9}

# unit written by people -> its size in the SI unit named by the outer key
KNOWN: dict[str, dict[str, float]] = {
    "B": {f"{p}B": f for p, f in (_DECIMAL | _BINARY).items()},
    "B/s": {f"{p}B/s": f for p, f in (_DECIMAL | _BINARY).items()} | {f"{p}bit/s": f / 8 for p, f in _DECIMAL.items()},
    "FLOP/s": {f"{p}FLOP/s": f for p, f in _DECIMAL.items()},
    "s": {f"{p}s": f for p, f in _SMALL.items()} | {"min": 60.0, "h": 3600.0, "d": 86400.0},
    "W": {f"{p}W": f for p, f in _DECIMAL.items()},
    "Hz": {f"{p}Hz": f for p, f in _DECIMAL.items()},
    "USD/s": {"USD/s": 1.0, "USD/h": 1 / 3600.0},
    "kg/J": {"kg/J": 1.0, "g/kWh": 1e-3 / 3.6e6, "kg/kWh": 1 / 3.6e6},
    "USD": {f"{p}USD": f for p, f in _DECIMAL.items()},
    "USD/J": {"USD/J": 1.0, "USD/kWh": 1 / 3.6e6},
}
_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S.*)?$")


def parse(text: str, unit: str, like: str | None = None) -> float:
    """Read `"400 Gbit/s"` as a float in the SI `unit`; ValueError names the rule that was broken.

    `like`: what it should look like; `example` if not given.
    """
    like = like or example(unit)
    match = _NUMBER.match(text)
    if match is None:
        raise ValueError(f"is not a number with a unit (write it like {like!r})")
    number, written = match.group(1), (match.group(2) or "").strip()
    if not written:
        raise ValueError(f"has no unit (write it like {like!r})")
    factor = KNOWN[unit].get(written)
    if factor is None:
        raise ValueError(f"has unit {written!r}, but this is in {unit} (write it like {like!r})")
    value = float(number) * factor
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def example(unit: str) -> str:
    """A well-formed quantity of that SI unit, for messages."""
    return {
        "B": "80 GB",
        "B/s": "400 Gbit/s",
        "FLOP/s": "989 TFLOP/s",
        "s": "5 us",
        "W": "700 W",
        "Hz": "1980 MHz",
        "USD/s": "3.90 USD/h",
        "kg/J": "400 g/kWh",
        "USD/J": "0.10 USD/kWh",
        "USD": "2 MUSD",
    }[unit]


_COUNT_SUFFIX = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def parse_count(text: str, binary_k: bool = False) -> int:
    """Read a count such as `"15T"` tokens or `"8k"` positions (`binary_k`: k is 1,024)."""
    match = re.fullmatch(r"\s*(\d[\d_]*\.?\d*)\s*([kKMBT]?)\s*", text)
    if match is None:
        raise ValueError("is not a positive count (write it like '8192', '300B' or '15T')")
    factor = 1024 if binary_k and match.group(2) in ("k", "K") else _COUNT_SUFFIX[match.group(2)]
    count = Decimal(match.group(1)) * factor
    if count != count.to_integral_value():
        raise ValueError("is not a whole number")
    return int(count)
