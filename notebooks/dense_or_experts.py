"""Dense against mixture of experts."""

import marimo

app = marimo.App(width="medium", app_title="Dense or experts")


@app.cell
def _():
    import marimo as mo

    import simtrain as st

    return mo, st


@app.cell
def _(mo):
    mo.md("""
    # Dense against mixture of experts

    Mixtral 8x7B has 47 billion parameters and uses 13 billion a token. What does a token cost, beside dense models of 13 and
    70 billion, on the same GPUs?
    """)
    return


@app.cell
def _(mo):
    gpus = mo.ui.slider(steps=[32, 64, 128, 256], value=64, label="GPUs", show_value=True)
    gpus
    return (gpus,)


@app.cell
def _(gpus, st):
    points = st.sweep(
        None,
        "dgx-h100",
        vary={"model": ["llama-2-13b", "mixtral-8x7b", "llama-2-70b"]},
        gpus=gpus.value,
        seq="4k",
        global_batch=512,
        tokens="1T",
        processes=1,
    )
    return (points,)


@app.cell
def _(mo, points):
    mo.ui.table(
        [
            {
                "model": row["model"],
                "layout": row["layout"],
                "tokens/s": round(row["tokens_per_s"]),
                "MFU": f"{row['mfu']:.1%}",
                "days for 1T tokens": round(row["run_time_s"] / 86400, 1),
                "thousand USD": round(row["run_cost_usd"] / 1e3, 1),
            }
            for row in points
            if row["fits"]
        ],
        selection=None,
    )
    return


@app.cell
def _(mo):
    mo.md("""
    ## Predicted and measured

    Mixtral 8x22B on 128 H100 and more (MoE Parallel Folding, arXiv 2504.14960): dense layers and experts laid out
    differently.
    """)
    return


@app.cell
def _(mo, st):
    runs = st.score("moe-folding-2025")
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
