"""Predicted against measured step times as one self-contained HTML page."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from simtrain.validation.score import Prediction
from simtrain.views.layout import layout
from simtrain.views.plotted import write_page


def write_scatter(path: Path, predictions: list[Prediction]) -> None:
    """Write the plot, one colour a source; WrongInput where `path` cannot be written. Needs plotly (see `plotted`)."""
    import plotly.graph_objects as plot

    sources: dict[str, list[Prediction]] = defaultdict(list)
    for p in predictions:
        if np.isfinite(p.ratio):
            sources[p.row.source].append(p)
    figure = plot.Figure()
    for source, rows in sorted(sources.items()):
        figure.add_scattergl(
            x=[p.row.step_s for p in rows],
            y=[p.step_time for p in rows],
            mode="markers",
            name=f"{source} ({len(rows)})",
            text=[f"{p.row.id}<br>{layout(p.expressed.plan) if p.expressed else ''}" for p in rows],
            hovertemplate="%{text}<br>measured %{x:.4g} s, predicted %{y:.4g} s<extra></extra>",
        )
    ends = [edge for rows in sources.values() for p in rows for edge in (p.row.step_s or p.step_time, p.step_time)]
    if ends:
        line = {"color": "grey", "dash": "dot"}
        figure.add_scatter(x=[min(ends), max(ends)], y=[min(ends), max(ends)], mode="lines", name="equal", line=line)
    figure.update_layout(
        title="Step time of published runs",
        xaxis={"title": "measured (s)", "type": "log"},
        yaxis={"title": "predicted (s)", "type": "log"},
        template="plotly_white",
    )
    write_page(path, figure)
