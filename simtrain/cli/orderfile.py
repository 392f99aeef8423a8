"""Reading an order the user wrote."""

from pathlib import Path

from simtrain.errors import Problem, WrongInput
from simtrain.timeline.order import Order
from simtrain.timeline.order_table import order_table


def read_order(path: Path) -> Order:
    """The order in a CSV or JSON file, see timeline.order_table; WrongInput where it holds none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WrongInput([Problem(str(path), None, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise WrongInput([Problem(str(path), None, "cannot be read: is not UTF-8 text")]) from None
    return order_table(text, str(path))
