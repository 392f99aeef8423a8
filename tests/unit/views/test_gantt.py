"""The timeline in a terminal: letters are time, with and without colour."""

import io
import re
from collections import Counter
from collections.abc import Callable

import pytest
from rich.console import Console
from steps import CATEGORIES, replay

from simtrain.timeline.footprint import Footprint
from simtrain.timeline.schedules import one_f_one_b, zero_bubble_v
from simtrain.timeline.schedules.pace import Pace
from simtrain.timeline.step import BUBBLE, SENDING, Step
from simtrain.views.gantt import MOST, print_timeline

ROW = re.compile(r"^((?:replica \d+ )?stage \d+) +(\S+) +(\d+\.\d) %$")


def printed(found: Step, held: Footprint, width: int = 120, **terminal: object) -> str:
    """Without the blanks at the ends of lines, as the command line prints it to a pipe."""
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False, **terminal)  # type: ignore[arg-type]
    print_timeline(console, found, held, CATEGORIES)
    return re.sub(" +\n", "\n", out.getvalue())


def rows(text: str) -> dict[str, tuple[str, float]]:
    """Letters and idle percentage by stage."""
    return {match[1]: (match[2], float(match[3])) for line in text.splitlines() if (match := ROW.match(line))}


WIDE = replay(one_f_one_b.order(8, 1, 32))


def test_eight_stages_of_thirty_two_microbatches(snapshot: Callable[[str], None]) -> None:
    snapshot(printed(*WIDE))


def test_weight_gradients_apart(snapshot: Callable[[str], None]) -> None:
    snapshot(printed(*replay(zero_bubble_v.order(4, 2, 8, Pace()))))


def test_colour_carries_nothing_that_letters_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = printed(*WIDE, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r" +\n", "\n", re.sub(r"\x1b\[[\d;]*m", "", coloured)) == printed(*WIDE)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*[34]\d", printed(*WIDE, force_terminal=True, color_system="truecolor"))


def test_a_pass_shows_where_it_begins_and_its_microbatch() -> None:
    """A column a millisecond: 1 of 4 gathered in front, 12 forward and 24 backward, 1 + 3 of 6 reduced behind."""
    found, held = replay(one_f_one_b.order(1, 1, 2))
    assert found.seconds == pytest.approx(80e-3)
    width = len("stage 0 ") + 80 + len(" 100.0 %")
    passes = [f"F{i}ffffffffffB{i}bbbbbbbbbbbbbbbbbbbbbb" for i in (0, 1)]
    assert rows(printed(found, held, width)) == {"stage 0": (f"G{passes[0]}{passes[1]}RrrrUuO", 0.0)}


@pytest.mark.parametrize("width", [60, 83, 120, 160])
@pytest.mark.parametrize("microbatches", [8, 32, 300])
def test_letters_stand_for_the_time_they_take(width: int, microbatches: int) -> None:
    """To four columns; a message's time counts as that of what stands beside it where that is longer."""
    found, held = replay(one_f_one_b.order(8, 1, microbatches))
    idling, sending = (found.terms[len(CATEGORIES) + term] / found.seconds for term in (BUBBLE, SENDING))
    for stage, (row, idle) in enumerate(rows(printed(found, held, width)).values()):
        assert len(row) == width - len("stage 0 ") - len(" 100.0 %")
        letters = Counter(re.sub(r"([FB])(\d+)", lambda run: run[1] * len(run[0]), row).upper())
        forward = (1.2 if stage == 7 else 1) * 10e-3 * microbatches / found.seconds
        assert letters["F"] == pytest.approx(forward * len(row), abs=4)
        assert letters["."] == pytest.approx(idling[stage] * len(row), abs=4)
        assert -4 < letters["B"] - 2 * forward * len(row) < 4 + sending[stage] * len(row)
        assert idle == pytest.approx(100 * idling[stage], abs=0.05)


def test_many_stages_are_thinned_out_and_it_says_so() -> None:
    found, held = replay(one_f_one_b.order(64, 1, 64))
    text = printed(found, held)
    drawn = list(rows(text))
    assert len(drawn) == MOST
    assert (drawn[0], drawn[-1]) == ("stage 0", "stage 63")
    assert f"{MOST} of 64 stages" in text
    assert "of 8 stages" not in printed(*WIDE)


def test_replicas_have_rows_of_their_own() -> None:
    found, held = replay(one_f_one_b.order(2, 1, 4), slowdown=[[1, 1], [1, 2]])
    drawn = rows(printed(found, held))
    assert list(drawn) == ["replica 0 stage 0", "replica 0 stage 1", "replica 1 stage 0", "replica 1 stage 1"]
    assert drawn["replica 1 stage 1"][1] < drawn["replica 0 stage 1"][1]


def test_memory_by_stage_at_its_peak() -> None:
    """Stage 0 holds eight microbatches, the last one and the logits."""
    table = printed(*WIDE).split("Peak memory")[1]
    assert re.search(r"^ stage 0 +30.3 +20.0 +8.0 +- +2.0 +0.3 +B 0$", table, re.MULTILINE)
    assert re.search(r"^ stage 7 +26.2 +20.0 +1.0 +3.0 +2.0 +0.2 +B 0$", table, re.MULTILINE)
    assert "at most 30.3 GiB on stage 0" in table


def test_headings_of_memory_stay_whole_in_a_narrow_terminal() -> None:
    """What does not fit beside the rest is what all stages have alike."""
    wide, narrow = (printed(*WIDE, width=width).split("Peak memory")[1].splitlines() for width in (120, 62))
    assert wide[1].split() == ["peak", "weights", "activations", "logits", "working", "set", "fragmentation", "during"]
    assert narrow[1].split() == ["peak", "activ.", "logits", "fragm.", "during"]
    assert narrow[2].split() == ["stage", "0", "30.3", "8.0", "-", "0.3", "B", "0"]
    assert narrow[-1] == " on each: weights 20.0, working set 2.0"
    assert max(map(len, narrow)) <= 62
