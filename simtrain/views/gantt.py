"""A replayed step in the terminal: what every stage does when, its memory at the peak, and where the time goes.

Every column of a row is one letter and as much time. Capitals begin a pass, small letters go on with it, and its
microbatch stands between them where it is wide enough. Where a column holds several passes, letters are chosen so that
over the row each stands for the time it takes.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simtrain.timeline.footprint import Footprint
from simtrain.timeline.graph import COMPUTE, DATA, GATHER, KINDS, OPTIMIZER, OVERHEAD, REDUCTION, UPDATE
from simtrain.timeline.memory import CLASSES
from simtrain.timeline.order import BACKWARD, FORWARD, INPUT, LETTERS, NONE, WEIGHT, Index
from simtrain.timeline.step import BUBBLE, Step, waits
from simtrain.views.format import GIB, gib, percent, seconds
from simtrain.views.rank import name

Array = NDArray[np.floating[Any]]
MOST: Final = 24
"""Rows that are drawn."""
STEPS: Final = 1.5
"""Of what is drawn over a step, from which it is several."""
WIDEST: Final = 160
"""Columns, however wide the terminal is."""
TICK: Final = 12
"""Columns between two marks of the scale, at least."""
ROUNDING: Final = 1e-9
"""Relative difference of sums that are equal."""
IDLE, TALK = ".", "-"
OF_KIND: Final = {
    **dict(enumerate(LETTERS)),
    GATHER: "G",
    REDUCTION: "R",
    UPDATE: "U",
    OVERHEAD: "O",
}
"""Letter of an operation that is drawn."""
MEANING: Final = {
    LETTERS[FORWARD]: ("forward", "white on blue"),
    LETTERS[BACKWARD]: ("backward", "black on green"),
    LETTERS[INPUT]: ("input gradient", "black on bright_green"),
    LETTERS[WEIGHT]: ("weight gradient", "black on yellow"),
    TALK: ("sends or waits for a message", "red"),
    OF_KIND[GATHER]: (KINDS[GATHER], "white on magenta"),
    OF_KIND[REDUCTION]: (KINDS[REDUCTION], "white on red"),
    OF_KIND[UPDATE]: ("optimizer", "black on white"),
    OF_KIND[OVERHEAD]: ("step overhead", "black on white"),
    IDLE: ("idle", "dim"),
}
"""What letters stand for, and how they are coloured."""
SHORT: Final = {
    "gradients": "grads",
    "optimizer": "optim.",
    "activations": "activ.",
    "working set": "working",
    "fragmentation": "fragm.",
}
"""Headings of classes of memory in a narrow terminal."""


@dataclass(frozen=True)
class Layer:
    """Intervals that do not overlap, in their order; arrays of shape (intervals,)."""

    start: Array
    end: Array
    letter: NDArray[np.str_]
    microbatch: Index | None = None

    def at(self, time: Array) -> Index:
        """The interval that holds each time, NONE where none does."""
        found = np.searchsorted(self.start, time, side="right") - 1
        return np.where((found >= 0) & (time < self.end[np.maximum(found, 0)]), found, NONE) if len(self.end) else found


def print_timeline(console: Console, step: Step, held: Footprint, categories: tuple[str, ...]) -> None:
    """Timeline, memory by stage and breakdown; `categories` name the first axis of `Costs.forward`."""
    ranks = evenly(step.graph.ranks)
    whole = float(step.times.end.max())
    idle = [percent(float(share)) for share in step.terms[len(categories) + BUBBLE] / step.seconds]
    label = max(len(name(step, rank)) for rank in ranks) + 1
    columns = max(min(console.width, WIDEST) - label - len(" 100.0 %"), TICK)
    rows = {rank: _row(step, rank, whole / columns, columns) for rank in ranks}
    order, each = step.order, seconds(step.seconds)
    drawn = f"a step of {each}" if whole < STEPS * step.seconds else f"steps that never drain, one every {each}"
    console.print(
        f"Timeline of {drawn}: {_counted(order.stages, 'stage')}, "
        f"{_counted(order.microbatches, 'microbatch', 'es')}, {seconds(whole / columns)} a column"
    )
    if len(ranks) < step.graph.ranks:
        console.print(f"{len(ranks)} of {step.graph.ranks} stages: both ends and some evenly between", style="dim")
    console.print(_alike(step), style="dim", end="")
    console.print(" " * (label + columns + 4) + "idle", style="dim")
    for rank in ranks:
        line = Text(name(step, rank).ljust(label), no_wrap=True)
        for letter, text in rows[rank]:
            line.append(text, MEANING[letter][1])
        console.print(line.append(idle[rank].rjust(len(" 100.0 %"))), no_wrap=True, crop=False)
    console.print(_scale(whole, label, columns), style="dim")
    if order.chunk.shape[1] > columns:
        console.print("Passes are shorter than a column: letters stand in proportion to their time.", style="dim")
    console.print(_legend({letter for row in rows.values() for letter, _ in row}, console.width))
    _memory(console, step, held, evenly(order.stages))


def _alike(step: Step) -> str:
    """Lines on replicas that stand for others."""
    if step.slowdown is None or len(step.slowdown.count) == 1:
        return ""
    kinds = zip(step.slowdown.replica.tolist(), step.slowdown.count.tolist(), strict=True)
    return "".join(f"replica {first} stands for {count} that are alike\n" for first, count in kinds if count > 1)


def _counted(count: int, noun: str, plural: str = "s") -> str:
    return f"{count} {noun}{'' if count == 1 else plural}"


def evenly(count: int) -> list[int]:
    """All of so many, or MOST of them, evenly, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).round().astype(int)).tolist()  # type: ignore[no-any-return]


def _row(step: Step, rank: int, wide: float, columns: int) -> list[tuple[str, str]]:
    """Letter and text of every run of columns of `wide` seconds each."""
    drawn = layers(step, rank)
    ends = [side for layer in drawn for side in (layer.start, layer.end)]
    cuts = np.unique(np.minimum(np.concatenate([wide * np.arange(columns + 1), *ends]), wide * columns))
    middle, lasts = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    column = np.minimum((middle / wide).astype(int), columns - 1)
    held: list[dict[tuple[str, int], float]] = [defaultdict(float) for _ in range(columns)]
    for where, what, long in zip(column.tolist(), found_at(drawn, middle), lasts.tolist(), strict=True):
        held[where][what] += long / wide
    return [(what[0], _written(*what, len(list(run)))) for what, run in groupby(_picked(held))]


def layers(step: Step, rank: int) -> list[Layer]:
    """What is drawn on a row, the foremost first: passes, messages sent and awaited, updates, data-parallel traffic."""
    graph, times = step.graph, step.times
    at = graph.stream(COMPUTE, rank)
    awaited = waits(graph, times, np.zeros(graph.ranks))[1][at]
    done = times.end[at] - graph.blocked[at]
    letters = np.array([OF_KIND.get(kind, IDLE) for kind in range(len(KINDS))])

    def alone(stream: int) -> Layer:
        at = graph.stream(stream, rank)
        shown = graph.seconds[at] > 0
        return Layer(times.start[at][shown], times.end[at][shown], letters[graph.kind[at]][shown])

    return [
        Layer(times.start[at], done, letters[graph.kind[at]], graph.microbatch[at]),
        Layer(done, times.end[at], np.full(len(done), TALK)),
        Layer(times.start[at] - awaited, times.start[at], np.full(len(done), TALK)),
        alone(OPTIMIZER),
        alone(DATA),
    ]


def found_at(layers: list[Layer], times: Array) -> list[tuple[str, int]]:
    """Letter and microbatch of what stands foremost at each time."""
    letter, microbatch = np.full(len(times), IDLE), np.full(len(times), NONE)
    for layer in reversed(layers):
        found = layer.at(times)
        here = found != NONE
        letter[here] = layer.letter[found[here]]
        microbatch[here] = NONE if layer.microbatch is None else layer.microbatch[found[here]]
    return list(zip(letter.tolist(), microbatch.tolist(), strict=True))


def _picked(columns: list[dict[tuple[str, int], float]]) -> list[tuple[str, int]]:
    """What each column shows of what it holds: the letter that is furthest behind its share, its longest interval.

    A message shows only where nothing is longer; else its time counts as that of the longest.
    """
    picked, owed = [], defaultdict[str, float](float)
    for held in columns:
        longest = max(held, key=held.__getitem__)
        if longest[0] != TALK:
            held[longest] += held.pop((TALK, NONE), 0.0)
        for (letter, _), share in held.items():
            owed[letter] += share
        chosen = max((letter for letter, _ in held), key=owed.__getitem__)
        owed[chosen] -= 1
        picked.append(max((what for what in held if what[0] == chosen), key=held.__getitem__))
    return picked


def _written(letter: str, microbatch: int, length: int) -> str:
    """A run of columns that shows one interval."""
    if letter in (IDLE, TALK):
        return letter * length
    begins = letter if microbatch == NONE else f"{letter}{microbatch}"
    return (begins if len(begins) <= length else letter).ljust(length, letter.lower())


def _scale(whole: float, label: int, columns: int) -> str:
    """Marks at round times below the rows."""
    size, unit = (1.0, "s") if whole >= 1 else (1e-3, "ms") if whole >= 1e-3 else (1e-6, "us")
    least = whole / size * TICK / columns
    decade = 10.0 ** np.floor(np.log10(least))
    tick = next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= least)
    line = unit.rjust(label - 1) + " "
    for number in range(int(whole / size / tick) + 1):
        line = line.ljust(label + round(number * tick * size / whole * columns)) + f"|{number * tick:g}"
    return line


def _legend(shown: set[str], width: int) -> Text:
    """The letters that occur; no entry is broken over lines."""
    lines = [Text()]
    for letter, (meaning, style) in MEANING.items():
        if letter in shown:
            if len(lines[-1]) + len(meaning) + 2 > width:
                lines.append(Text())
            lines[-1].append(letter, style).append(f" {meaning}   ")
    lines.append(Text("small letters go on with a pass, digits are its microbatch", style="dim"))
    return Text("\n").join(lines)


def _memory(console: Console, step: Step, held: Footprint, stages: list[int]) -> None:
    """What each stage's memory holds when it holds most, by the classes that take any.

    Where the terminal is too narrow headings are short, and what is alike on all stages stands below.
    """
    order, total = step.order, held.total
    fullest, _ = held.peak
    peaks = {
        stage: int(np.argmax(total[stage] >= total[stage].max() * (1 - ROUNDING)))
        for stage in sorted({*stages, fullest})
    }
    sizes = np.array([held.classes(stage, action) for stage, action in peaks.items()])
    shown = [number for number in range(len(CLASSES)) if sizes[:, number].max() > 0]
    alike = [number for number in shown if len({f"{size / GIB:.1f}" for size in sizes[:, number]}) == 1]
    console.print(f"Peak memory in GiB, at most {gib(total.max())} on stage {fullest}", style="table.title")

    def table(headings: dict[int, str]) -> Table:
        drawn = Table(box=None)
        drawn.add_column("", no_wrap=True)
        for heading in ("peak", *headings.values()):
            drawn.add_column(heading, justify="right", overflow="fold")
        drawn.add_column("during", no_wrap=True)
        for row, (stage, action) in zip(sizes, peaks.items(), strict=True):
            during = f"{LETTERS[order.phase[stage, action]]} {order.microbatch[stage, action]}"
            parts = (f"{size / GIB:.1f}" if size else "-" for size in row[list(headings)])
            drawn.add_row(f"stage {stage}", f"{total[stage, action] / GIB:.1f}", *parts, during)
        return drawn

    whole = table({number: CLASSES[number] for number in shown})
    if console.measure(whole, options=console.options.update(max_width=WIDEST)).maximum <= console.width or not alike:
        console.print(whole)
        return
    differ = [number for number in shown if number not in alike]
    console.print(table({number: SHORT.get(CLASSES[number], CLASSES[number]) for number in differ}))
    console.print(" on each: " + ", ".join(f"{CLASSES[number]} {sizes[0, number] / GIB:.1f}" for number in alike))
