"""Hanayo (arXiv 2308.15762): 2W chunks a stage that a microbatch runs down and up in W waves, and back again."""

import numpy as np

from simtrain.timeline.order import BACKWARD, FORWARD, Order, folded, joined


def order(stages: int, chunks: int, microbatches: int) -> Order:
    """A microbatch enters every second turn and takes a chunk a turn, forward and then backward, and never waits.

    p microbatches that enter so meet nowhere: a stage runs at most one forward and one backward pass a turn. The next p
    follow when these turn back; so a stage holds what p microbatches leave, as the first does under 1F1B. With passes
    T_F and T_B >= T_F of a chunk and m a multiple of p every stage idles for 2(p - 1) T_B, whatever W is.
    """
    place = folded(stages, chunks)
    several = np.arange(microbatches)
    enters = 2 * (several % stages) + place.size * (several // stages)
    chunk, microbatch, phase = (
        part.ravel() for part in np.meshgrid(np.arange(chunks), several, (FORWARD, BACKWARD), indexing="ij")
    )
    rows = []
    for at in place:
        taken = np.where(phase == FORWARD, at[chunk], 2 * place.size - 1 - at[chunk])
        turns = np.lexsort((phase == FORWARD, enters[microbatch] + taken))
        rows.append(np.stack([chunk, microbatch, phase], axis=1)[turns])
    return joined(rows, place)
