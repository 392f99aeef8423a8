"""Answers as values: they print as the command line does, in a terminal and in a notebook, and hold plain rows."""

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from simtrain.errors import Problem, WrongInput
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.views.point import flat

MOST: Final = 30
"""Rows of a printed table."""
WIDTH: Final = 118
"""Columns of a printed answer."""
BLOCK: Final = '<pre style="overflow-x: auto; line-height: 1.25; font-family: ui-monospace, monospace">{code}</pre>'


class Rows(list[dict[str, Any]]):
    """Plain dictionaries, one a row, with the same keys; pandas and polars take them as they are.

    Printed as a table, or as `shown` does.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), shown: Callable[[Console], None] | None = None):
        super().__init__(rows)
        self._shown = shown or self._table

    def __repr__(self) -> str:
        return _printed(self._shown)

    def _table(self, console: Console) -> None:
        table = Table(box=None)
        for name in self[0] if self else ():
            table.add_column(name, overflow="fold")
        for row in self[:MOST]:
            table.add_row(*(_cell(value) for value in row.values()))
        console.print(table)
        if len(self) > MOST:
            console.print(f"and {len(self) - MOST:,} more")

    def _repr_html_(self) -> str:
        names = list(self[0]) if self else []
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(_cell(row[name]))}</td>" for name in names) + "</tr>" for row in self
        )
        return f'<div style="overflow-x: auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _printed(shown: Callable[[Console], None]) -> str:
    file = io.StringIO()
    shown(Console(file=file, width=WIDTH, highlight=False, markup=False, emoji=False))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


@dataclass(frozen=True, repr=False)
class Answer:
    """The answer for a job: `print(answer)` shows it, `rows` are its plans, `document` is what --json prints."""

    job: Job
    document: dict[str, Any]
    shown: Callable[[Console], None]

    @property
    def rows(self) -> Rows:
        """One flat dictionary a plan, the best first; keys carry their units."""
        return Rows(
            {"rank": row["rank"], "fits": row["fits"]} | flat(row) | {"reason": row["reason"]}
            for row in self.document["plans"]
        )

    def plan(self, rank: int = 1) -> Plan:
        """Plan number `rank`; WrongInput where there is none."""
        plans = self.document["plans"]
        if not 1 <= rank <= len(plans):
            rule = f"the answer holds plans 1 to {len(plans)}" if plans else "nothing fits"
            raise WrongInput([Problem("rank", rank, rule)])
        return Plan.model_validate(plans[rank - 1]["plan"])

    def write(self, path: str) -> None:
        """Write a plan file, as `simtrain plan --out` does."""
        Path(path).write_text(json.dumps(self.document, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    def __repr__(self) -> str:
        return _printed(self.shown)

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), width=WIDTH, record=True, highlight=False, markup=False, emoji=False)
        self.shown(console)
        return console.export_html(inline_styles=True, code_format=BLOCK)
