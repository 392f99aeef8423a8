"""How sure are we: the scoreboard."""

import marimo

app = marimo.App(width="medium", app_title="How sure are we")


@app.cell
def _():
    import marimo as mo

    import simtrain as st

    return mo, st


@app.cell
def _(mo):
    mo.md("""
    # How sure are we

    Thousands of published measured runs, each predicted from its configuration alone. The interval of every prediction is
    meant to hold nine measurements of ten.
    """)
    return


@app.cell
def _(st):
    runs = st.score()
    return (runs,)


@app.cell
def _(mo, runs):
    sources = sorted({row["source"] for row in runs})
    board = []
    for source in sources:
        errors = sorted(abs(row["error"]) for row in runs if row["source"] == source)
        inside = [
            row["predicted_low_s"] <= row["measured_s"] <= row["predicted_high_s"]
            for row in runs
            if row["source"] == source
        ]
        board.append(
            {
                "source": source,
                "runs": len(errors),
                "median error": f"{errors[len(errors) // 2]:.1%}",
                "mean error": f"{sum(errors) / len(errors):.1%}",
                "inside the interval": f"{sum(inside) / len(inside):.0%}",
            }
        )
    mo.ui.table(board, selection=None, page_size=40)
    return


@app.cell
def _(mo, runs):
    import plotly.graph_objects as plot

    figure = plot.Figure()
    figure.add_scattergl(
        x=[row["measured_s"] for row in runs],
        y=[row["predicted_s"] for row in runs],
        text=[f"{row['id']}<br>{row['layout']}" for row in runs],
        mode="markers",
        marker={"size": 4},
    )
    figure.update_xaxes(title="measured, seconds a step", type="log")
    figure.update_yaxes(title="predicted, seconds a step", type="log")
    mo.vstack([mo.md("## Predicted and measured"), mo.ui.plotly(figure)])
    return


if __name__ == "__main__":
    app.run()
