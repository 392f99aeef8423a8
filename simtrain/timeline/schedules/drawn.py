"""The order of a schedule by its name: one row a generator."""

from collections.abc import Callable
from typing import Final

from simtrain.spec.schedule import Schedule
from simtrain.timeline.order import Order
from simtrain.timeline.schedules import (
    breadth_first,
    dual_pipe_v,
    gpipe,
    interleaved,
    no_flush,
    one_f_one_b,
    wave,
    zero_bubble,
    zero_bubble_v,
)
from simtrain.timeline.schedules.pace import Pace

Generator = Callable[[int, int, int, Pace], Order]
GENERATORS: Final[dict[Schedule, Generator]] = {
    "gpipe": lambda p, v, m, pace: gpipe.order(p, v, m),
    "1f1b": lambda p, v, m, pace: one_f_one_b.order(p, v, m),
    "interleaved": lambda p, v, m, pace: interleaved.order(p, v, m),
    "breadth-first": lambda p, v, m, pace: breadth_first.order(p, v, m),
    "hanayo": lambda p, v, m, pace: wave.order(p, v, m),
    "no-flush": lambda p, v, m, pace: no_flush.order(p, v, m),
    "zb-1p": lambda p, v, m, pace: zero_bubble.order(p, m, pace, limit=p),
    "zb-2p": lambda p, v, m, pace: zero_bubble.order(p, m, pace, limit=2 * p),
    "zb-v": zero_bubble_v.order,
    "dualpipe-v": lambda p, v, m, pace: dual_pipe_v.order(p, v, m),
}
"""Order of p stages with v chunks each and m microbatches; those that are searched fit themselves to the pace."""


def drawn(schedule: Schedule, stages: int, chunks: int, microbatches: int, pace: Pace) -> Order:
    """What every stage runs, in order; `pace`: a chunk's."""
    return GENERATORS[schedule](stages, chunks, microbatches, pace)
