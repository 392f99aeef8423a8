"""Which cluster to rent for a budget and a deadline."""

import marimo

app = marimo.App(width="medium", app_title="Which cluster to rent")


@app.cell
def _():
    import marimo as mo

    import simtrain as st

    return mo, st


@app.cell
def _(mo):
    mo.md("""
    # Which cluster to rent

    A model, the tokens to train it on, a budget and a deadline: which clusters and how many GPUs will do?
    Prices are those of the cluster files (`simtrain show clusters NAME` states their source). Failures are not counted.
    """)
    return


@app.cell
def _(mo):
    budget = mo.ui.slider(steps=[20, 50, 100, 200, 500, 1000], value=100, label="budget, thousand USD", show_value=True)
    deadline = mo.ui.slider(steps=[7, 14, 30, 60, 120], value=30, label="deadline, days", show_value=True)
    mo.hstack([budget, deadline])
    return budget, deadline


@app.cell
def _(st):
    points = st.sweep(
        "llama-3-8b",
        vary={"cluster": ["dgx-a100", "dgx-h100", "p5"], "gpus": [16, 64, 256]},
        tokens="1T",
        processes=1,
    )
    return (points,)


@app.cell
def _(budget, deadline, mo, points):
    def days(row):
        return row["run_time_s"] / 86400

    slow = {id(row): row["step_time_high_s"] / row["step_time_s"] for row in points if row["fits"]}
    within = [
        {
            "cluster": row["cluster"],
            "gpus": row["gpus"],
            "layout": row["layout"],
            "days": round(days(row), 1),
            "days at worst": round(days(row) * slow[id(row)], 1),
            "thousand USD": round(row["run_cost_usd"] / 1e3, 1),
            "sure": days(row) * slow[id(row)] <= deadline.value
            and row["run_cost_usd"] * slow[id(row)] <= budget.value * 1e3,
        }
        for row in points
        if row["fits"] and row["run_cost_usd"] is not None
        if days(row) <= deadline.value and row["run_cost_usd"] <= budget.value * 1e3
    ]
    found = sorted(within, key=lambda row: row["thousand USD"])
    words = f"{len(found)} of {len(points)} will do, the cheapest first. `sure`: at the slow end of the interval too."
    mo.vstack([mo.md(words), mo.ui.table(found, selection=None)])
    return


@app.cell
def _(mo):
    mo.md("""
    ## Predicted and measured

    LLM Foundry's runs on H100: one of the sources a choice of clusters rests on.
    """)
    return


@app.cell
def _(mo, st):
    runs = st.score("llm-foundry")
    errors = sorted(abs(row["error"]) for row in runs)
    mo.vstack(
        [
            mo.ui.table(list(runs), selection=None),
            mo.md(
                f"{len(runs)} runs; half of the predictions are off by less than **{errors[len(errors) // 2]:.1%}**."
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
