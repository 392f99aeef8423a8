"""A whole and what it is made of, drawn as bars."""

from collections.abc import Callable
from typing import Final

from rich.table import Table
from rich.text import Text

from simtrain.views.format import percent

BAR: Final = 24
"""Columns of the whole."""
SMALLEST: Final = 0.0005
"""Share from which a part is shown."""


def shares(title: str, parts: dict[str, float], whole: float, shown: Callable[[float], str]) -> Table:
    """A row a part, the largest first; `shown` writes a size."""
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        if value > SMALLEST * whole:
            share = value / whole
            table.add_row(name, shown(value), percent(share), Text("█" * round(share * BAR), style="cyan"))
    return table
