"""A self-contained HTML page: works offline, on a phone and on a wide screen."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem

STYLE: Final = """
:root { --ink: #1c2330; --soft: #5b6575; --line: #d9dee6; --paper: #ffffff; --band: #f4f6f9; --accent: #1f5fbf; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 36px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
p { margin: 8px 0; max-width: 75ch; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: .9rem; }
.answer { background: var(--band); border-left: 4px solid var(--accent); padding: 12px 16px; max-width: none; }
.scroll { overflow-x: auto; background:
  linear-gradient(to right, var(--paper) 30%, #ffffff00) 0 0 / 40px 100% no-repeat local,
  linear-gradient(to left, var(--paper) 30%, #ffffff00) 100% 0 / 40px 100% no-repeat local,
  linear-gradient(to right, #1c233033, #1c233000) 0 0 / 12px 100% no-repeat scroll,
  linear-gradient(to left, #1c233033, #1c233000) 100% 0 / 12px 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.whole { white-space: nowrap; }
.line { min-width: 15em; }
.text { min-width: 26em; }
@media (max-width: 700px) { .text { min-width: 48em; } }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
pre { background: var(--band); padding: 12px; overflow-x: auto; font-size: .85rem; }
code { font-family: ui-monospace, monospace; }
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--accent); }
.figure { width: 100%; }
"""
WHOLE: Final = 20
"""Characters up to which a cell is never broken: numbers with units, short names."""
LINE: Final = 60
"""Characters from which a cell is broken into lines of a text."""


def missing_plotly(where: str, path: Path) -> list[Problem]:
    """What is missing to draw pages."""
    if find_spec("plotly") is not None:
        return []
    hint = "install it with: pip install 'simtrain[html]'"
    return [Problem(where, str(path), "needs plotly, which is not installed", hint)]


def page(title: str, subtitle: str, sections: Iterable[str]) -> Iterator[str]:
    """The document, in pieces; plotly's script is part of it."""
    from plotly.offline import get_plotlyjs

    yield (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style>'
    )
    yield f"<script>{get_plotlyjs()}</script></head><body><main>"
    yield f'<h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>\n'
    yield from sections
    yield "</main></body></html>\n"


def section(name: str, title: str, *parts: str) -> str:
    """A part with a heading; `name` is its anchor."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{"".join(parts)}</section>\n'


def paragraph(text: str, kind: str = "") -> str:
    """Text in a paragraph; `kind`: soft or answer."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def code(text: str) -> str:
    """Lines to copy."""
    return f"<pre><code>{escape(text)}</code></pre>"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways in its own box where it is too wide."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    kind = "whole" if len(text) <= WHOLE else "line" if len(text) <= LINE else "text"
    return f'<td class="{kind}">{escape(text)}</td>'


def folded(title: str, inside: str) -> str:
    """What shows once its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{inside}</details>"


def figure(name: str, drawn: Any, height: int) -> str:
    """A plotly figure as wide as the page; `height` in pixels."""
    drawn.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        font={"size": 12},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "traceorder": "normal"},
        xaxis={"automargin": True},
        yaxis={"automargin": True},
    )
    settings = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    drawing = drawn.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=settings)
    return f'<div class="figure">{drawing}</div>'
