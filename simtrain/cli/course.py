"""How a step runs otherwise than planned, read from the command line."""

from collections.abc import Sequence
from pathlib import Path

from simtrain.cli.inputs import tried
from simtrain.errors import Problem, WrongInput
from simtrain.estimate.course import Course
from simtrain.spec.slow import slows
from simtrain.timeline.duration_table import Durations, duration_table
from simtrain.timeline.order import Order
from simtrain.timeline.order_table import order_table


def read_course(
    order: Path | None, slowed: Sequence[str] | None, durations: Path | None, problems: list[Problem]
) -> Course:
    """Order, slow devices and durations; what is wrong is added to `problems`."""
    return Course(
        tried(problems, _order, order), tried(problems, slows, slowed) or (), tried(problems, _durations, durations)
    )


def _order(path: Path) -> Order:
    return order_table(_text(path), str(path))


def _durations(path: Path) -> Durations:
    return duration_table(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise WrongInput([Problem(str(path), None, "cannot be read: is not UTF-8 text")]) from None
