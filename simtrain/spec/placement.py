"""Where the training states of a device are kept: on it, in its host's memory, or on its node's drives."""

from collections.abc import Sequence
from itertools import product
from typing import Final, Literal

import numpy as np

from simtrain.errors import nearest

State = Literal["weights", "gradients", "master", "moments"]
STATES: Final[tuple[State, ...]] = ("weights", "gradients", "master", "moments")
PLACES: Final = ("device", "cpu", "nvme")
DEVICE, CPU, NVME = range(len(PLACES))
GROUPS: Final[dict[str, tuple[State, ...]]] = {"all": STATES, "optimizer": ("gradients", "master", "moments")}
"""Names of several states at once."""


def _named(places: Sequence[int]) -> str:
    """A placement as it is written: what is not on the device, by the largest groups, `=cpu` left out alone."""
    parts: dict[str, int] = dict(zip(STATES, places, strict=True))
    for name, states in GROUPS.items():
        if len({parts.get(state) for state in states}) == 1 and name not in parts:
            place = parts[states[0]]
            parts = {other: at for other, at in parts.items() if other not in states} | {name: place}
            break
    away = {name: place for name, place in parts.items() if place != DEVICE}
    if list(away.values()) == [CPU] and set(away) <= set(GROUPS):
        return next(iter(away))
    return ",".join(f"{name}={PLACES[place]}" for name, place in away.items()) or "none"


_EVERY: Final = sorted(product(range(len(PLACES)), repeat=len(STATES)), key=lambda places: (max(places), places))
_SHORT: Final = ("none", "optimizer", "all")
_NAMES: Final = {_named(places): places for places in _EVERY}
OFFLOAD: Final = (*_SHORT, *(name for name in _NAMES if name not in _SHORT))
"""Every placement; plans hold its name, tables of plans its place here."""
PLACE_OF: Final = np.array([_NAMES[name] for name in OFFLOAD])
"""Place of every state, shape (placements, states)."""


def placement(text: str) -> str:
    """The name of a placement, e.g. `optimizer` of `optimizer=cpu`; ValueError where it is none.

    States that are not named stay on the device; a name without a place is in host memory.
    """
    places = dict.fromkeys(STATES, DEVICE)
    known = (*STATES, *GROUPS)
    for part in [] if text.strip() == "none" else text.split(","):
        name, _, place = (piece.strip() for piece in part.partition("="))
        if name not in known:
            raise ValueError(f"{name!r} is no state: {nearest(name, known)}")
        if place and place not in PLACES:
            raise ValueError(f"{place!r} is no place for {name}: {nearest(place, PLACES)}")
        states = GROUPS[name] if name in GROUPS else (STATES[known.index(name)],)
        places |= dict.fromkeys(states, PLACES.index(place or "cpu"))
    return _named(list(places.values()))
