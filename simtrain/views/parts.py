"""Printed parts of runs against ours: as plain data, and as a table."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from simtrain.validation.parts import Part
from simtrain.views.format import gib, seconds

NAMES = {"s": "s", "B": "bytes"}


def parts_document(found: Sequence[Part]) -> list[dict[str, Any]]:
    """One entry a part, in the unit its keys end in."""
    return [
        {
            "id": part.row,
            "source": part.source,
            "part": part.name,
            f"measured_{NAMES[part.unit]}": part.measured,
            f"predicted_{NAMES[part.unit]}": part.predicted,
            "ratio": part.ratio,
        }
        for part in found
    ]


def print_parts(console: Console, found: Sequence[Part]) -> None:
    """A line a part."""
    table = Table(title="Printed parts", title_justify="left", box=None)
    for heading in ("source", "row", "part", "measured", "predicted", "ratio"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("source", "row", "part") else "right")
    for part in found:
        shown = gib if part.unit == "B" else seconds
        table.add_row(
            part.source, part.row, part.name, shown(part.measured), shown(part.predicted), f"{part.ratio:.2f}"
        )
    console.print(table)
    console.print("ratio: predicted over measured", style="dim")
