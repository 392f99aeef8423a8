"""A replayed step as a trace that ui.perfetto.dev and chrome://tracing open: JSON in the Trace Event Format.

A process is a rank, and a track one of its streams. Communication that holds up a pass (tensor, context, expert) is
drawn in one piece at the pass's end, on a track of its own, though it is spread over all layers of the pass. A counter
says what memory is used for during a pass and until the next begins. The passes of a microbatch are one flow.
"""

import json
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simtrain.price.categories import COMMUNICATION
from simtrain.timeline.footprint import Footprint
from simtrain.timeline.graph import COMPUTE, KINDS, MESSAGE, STREAMS
from simtrain.timeline.order import FORWARD, LETTERS, NONE, WEIGHT, Index
from simtrain.timeline.step import Step, shares
from simtrain.views.format import GIB
from simtrain.views.rank import name

Array = NDArray[np.float64]
TRACKS: Final = (STREAMS[COMPUTE], "communication in passes", *STREAMS[COMPUTE + 1 :])
PASSES, INSIDE = 0, 1
"""Tracks of the compute stream; every other stream's stands one behind its number."""
TICKS: Final = 8e6
"""Ticks a second. The format counts in microseconds; eighths of one are exact in binary, so slices that touch do not
overlap in any reader, and Perfetto drops those that do."""


def trace(step: Step, held: Footprint, categories: tuple[str, ...]) -> Iterator[str]:
    """The document, a piece a rank; `categories` name the first axis of `Costs.forward`."""
    yield '{"displayTimeUnit": "ms", "traceEvents": [\n'
    parts = shares(step.costs)
    for rank in range(step.graph.ranks):
        events = [*_named(step, rank), *_passes(step, rank, parts, categories)]
        for stream in range(COMPUTE + 1, len(STREAMS)):
            events += _stream(step, rank, stream)
        events += _memory(step, held, rank)
        yield ",\n".join(events) + ("\n" if rank == step.graph.ranks - 1 else ",\n")
    yield "]}\n"


def _clock(seconds: Array) -> list[float]:
    """Microseconds, to a tick."""
    return (np.rint(seconds * TICKS) * (1e6 / TICKS)).tolist()  # type: ignore[no-any-return]


def _ids(rank: int, track: int = PASSES) -> str:
    """Process and thread; no thread number occurs twice, and the first of a process is its main thread."""
    process = 1 + rank * len(TRACKS)
    return f'"pid":{process},"tid":{process + track}'


def _named(step: Step, rank: int) -> list[str]:
    """Names and places of a rank and its tracks."""

    def meta(what: str, ids: str, args: dict[str, str | int]) -> str:
        return f'{{"ph":"M","name":"{what}",{ids},"args":{json.dumps(args)}}}'

    events = [
        meta("process_name", _ids(rank), {"name": name(step, rank)}),
        meta("process_sort_index", _ids(rank), {"sort_index": rank}),
    ]
    for track, title in enumerate(TRACKS):
        events.append(meta("thread_name", _ids(rank, track), {"name": title}))
        events.append(meta("thread_sort_index", _ids(rank, track), {"sort_index": track}))
    return events


def _passes(step: Step, rank: int, parts: Array, categories: tuple[str, ...]) -> Iterator[str]:
    """Passes, what they communicate, and the sends that hold up the next.

    `parts`: shares of categories, shape (phases, categories, stages, chunks).
    """
    graph, at = step.graph, step.graph.stream(COMPUTE, rank)
    stage = rank % step.order.stages
    kind, chunk, microbatch = graph.kind[at], graph.chunk[at], graph.microbatch[at]
    position = step.order.place[stage, chunk]
    lasting = graph.seconds[at] - graph.blocked[at]
    inside = [number for number, category in enumerate(categories) if category in COMMUNICATION]
    talks = lasting * parts[kind, :, stage, chunk][:, inside].sum(axis=1)
    done = step.times.end[at] - graph.blocked[at]
    flow = rank // step.order.stages * step.order.microbatches + microbatch
    made: dict[tuple[int, int, float], tuple[str, str]] = {}
    for k, c, m, p, seconds, f, way, begin, exchange, end, free in zip(
        *(values.tolist() for values in (kind, chunk, microbatch, position, lasting, flow)),
        _ways(kind, chunk, microbatch, position),
        *map(_clock, (step.times.start[at], done - talks, done, step.times.end[at])),
        strict=True,
    ):
        if (k, c, seconds) not in made:
            made[k, c, seconds] = _make_up(seconds * parts[k, :, stage, c], categories)
        whole, talk = made[k, c, seconds]
        title = f"{LETTERS[k]} {m}"
        where = f'"chunk":{c},"microbatch":{m},"position":{p}'
        if end > begin:
            bound = f'"bind_id":"0x{f:x}"{way},' if way else ""
            yield _slice(title, _ids(rank), begin, end, f"{where},{whole}", bound)
        if end > exchange:
            yield _slice(f"{title} communication", _ids(rank, INSIDE), max(begin, exchange), end, talk)
        if free > end:
            yield _slice(f"{title} send", _ids(rank), end, free, where)


def _slice(title: str, ids: str, begin: float, end: float, args: str, bound: str = "") -> str:
    return f'{{"ph":"X","name":"{title}",{ids},"ts":{begin},"dur":{end - begin},{bound}"args":{{{args}}}}}'


def _make_up(seconds: Array, categories: tuple[str, ...]) -> tuple[str, str]:
    """Seconds by category: of all that take any, and of the communication among them."""

    found = {category: round(float(took), 9) for category, took in zip(categories, seconds, strict=True) if took > 0}
    talks = {category: took for category, took in found.items() if category in COMMUNICATION}
    return f'"time_by_category_s":{json.dumps(found)}', f'"time_by_category_s":{json.dumps(talks)}'


def _ways(kind: Index, chunk: Index, microbatch: Index, position: Index) -> list[str]:
    """Whether the flow of a microbatch comes into a pass and goes on from it; weight gradients are on no way."""
    opens = opens_action(kind, chunk, microbatch)
    at_end = position == 0
    begins = at_end & (kind == FORWARD) & opens
    ends = at_end & (kind != FORWARD) & np.append(opens[1:], True)
    into = np.where(begins, "", ',"flow_in":true')
    on = np.where(ends, "", ',"flow_out":true')
    return np.where(kind == WEIGHT, "", np.char.add(into, on)).tolist()  # type: ignore[no-any-return]


def opens_action(kind: Index, chunk: Index, microbatch: Index) -> NDArray[np.bool_]:
    """Where an action begins: the others are further pieces of the same."""
    changes = np.diff(np.stack([kind, chunk, microbatch]), axis=1).any(axis=0)
    return np.append(True, changes)


def _stream(step: Step, rank: int, stream: int) -> Iterator[str]:
    """Operations of a stream that does not compute."""
    graph, at = step.graph, step.graph.stream(stream, rank)
    ids = _ids(rank, stream + 1)
    sender = graph.kind[np.maximum(graph.needs[at, 0], 0)]
    for kind, sent, chunk, microbatch, begin, end in zip(
        *(values.tolist() for values in (graph.kind[at], sender, graph.chunk[at], graph.microbatch[at])),
        _clock(step.times.start[at]),
        _clock(step.times.end[at]),
        strict=True,
    ):
        if end > begin:
            title = f"{LETTERS[sent]} {microbatch} message" if kind == MESSAGE else KINDS[kind]
            where = "" if microbatch == NONE else f'"chunk":{chunk},"microbatch":{microbatch}'
            yield _slice(title, ids, begin, end, where)


def _memory(step: Step, held: Footprint, rank: int) -> Iterator[str]:
    """What memory is used for, in GiB, from the start of every pass; after the last only what stays."""
    graph, at = step.graph, step.graph.stream(COMPUTE, rank)
    stage = rank % step.order.stages
    opens = opens_action(graph.kind[at], graph.chunk[at], graph.microbatch[at])
    when = _clock(np.append(step.times.start[at][opens], step.times.end[at][-1]))
    moving = np.stack([part[stage, : len(when) - 1] for part in (held.activations, held.logits, held.working)])
    moving = np.pad(np.vstack([moving, held.lost * moving.sum(axis=0)]), ((0, 0), (0, 1))) / GIB
    resident = float(held.resident[stage] / GIB)
    ids = _ids(rank)
    for at_time, activations, logits, working, lost in zip(when, *moving.tolist(), strict=True):
        total = resident + activations + logits + working + lost
        yield (
            f'{{"ph":"C","name":"memory by class (GiB)",{ids},"ts":{at_time},"args":{{"resident":{resident:.4f},'
            f'"activations":{activations:.4f},"logits":{logits:.4f},"working set":{working:.4f},'
            f'"fragmentation":{lost:.4f}}}}},\n'
            f'{{"ph":"C","name":"memory (GiB)",{ids},"ts":{at_time},"args":{{"total":{total:.4f}}}}}'
        )
