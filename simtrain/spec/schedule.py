"""Pipeline schedules and what tells them apart before any order is drawn up."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

Schedule = Literal[
    "gpipe", "1f1b", "interleaved", "breadth-first", "hanayo", "no-flush", "zb-1p", "zb-2p", "zb-v", "dualpipe-v"
]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)


@dataclass(frozen=True)
class Trait:
    """One schedule; orders are drawn up in timeline/schedules."""

    chunks: tuple[int, int, int] = (1, 1, 1)
    """How many a stage has: from, to, in multiples of."""
    folded: bool = False
    """The way through the chunks turns back at either end, so that the first stage holds both ends of the model."""
    split: bool = False
    """Weight gradients run apart from backward passes."""
    floods: bool = False
    """All microbatches are in flight at once."""
    hides: bool = False
    """Messages travel while their sender goes on, as far as the stack lets them."""


SEVERAL: Final = (2, 2**20, 1)
EVEN: Final = (2, 2**20, 2)
TWO: Final = (2, 2, 2)
TRAITS: Final[dict[Schedule, Trait]] = {
    "gpipe": Trait(floods=True),
    "1f1b": Trait(),
    "interleaved": Trait(SEVERAL, hides=True),
    "breadth-first": Trait(SEVERAL, floods=True, hides=True),
    "hanayo": Trait(EVEN, folded=True, hides=True),
    "no-flush": Trait(),
    "zb-1p": Trait(split=True),
    "zb-2p": Trait(split=True),
    "zb-v": Trait(TWO, folded=True, split=True),
    "dualpipe-v": Trait(TWO, folded=True, split=True),
}
FOLDED, SPLIT, FLOODS, HIDES = (
    np.array([getattr(TRAITS[name], trait) for name in SCHEDULES]) for trait in ("folded", "split", "floods", "hides")
)
"""The same as masks over SCHEDULES."""
LEAST_CHUNKS, MOST_CHUNKS, CHUNK_STEP = np.array([TRAITS[name].chunks for name in SCHEDULES]).T
"""Chunks a stage may have, over SCHEDULES: from, to, and in multiples of."""
