"""The same model at sequences of 8k to 1M tokens."""

import marimo

app = marimo.App(width="medium", app_title="From 8k to 1M tokens")


@app.cell
def _():
    import marimo as mo

    import simtrain as st

    return mo, st


@app.cell
def _(mo):
    mo.md("""
    # The same model at 8k to 1M tokens

    A step holds the same number of tokens throughout, four million. Longer sequences mean more attention, and memory that
    only context parallelism, recomputation or both can make room for.
    """)
    return


@app.cell
def _(mo):
    gpus = mo.ui.slider(steps=[64, 128, 256, 512], value=256, label="GPUs", show_value=True)
    gpus
    return (gpus,)


@app.cell
def _(gpus, st):
    lengths = ["8k", "32k", "128k", "512k", "1024k"]
    points = st.sweep("llama-3-8b", "dgx-h100", vary={"seq": lengths}, gpus=gpus.value, processes=1)
    return (points,)


@app.cell
def _(mo, points):
    shown = [
        {
            "sequence": row["sequence"],
            "layout": row["layout"],
            "tokens/s": round(row["tokens_per_s"]),
            "MFU": f"{row['mfu']:.1%}",
            "memory, GiB": round(row["memory_bytes"] / 2**30, 1),
        }
        for row in points
        if row["fits"]
    ]
    missing = [row["seq"] for row in points if not row["fits"]]
    words = f"Nothing fits at {', '.join(missing)}." if missing else "Something fits at every length."
    mo.vstack([mo.ui.table(shown, selection=None), mo.md(words)])
    return


@app.cell
def _(mo):
    mo.md("""
    ## Predicted and measured

    XTuner's published runs reach a million tokens; predictions come from their configuration alone.
    """)
    return


@app.cell
def _(mo, st):
    runs = [row for row in st.score("xtuner") if row["seq"] >= 32768]
    errors = sorted(abs(row["error"]) for row in runs)
    middle = f"{errors[len(errors) // 2]:.1%}"
    mo.vstack(
        [
            mo.ui.table(runs, selection=None),
            mo.md(
                f"{len(runs)} runs of 32k tokens or more; half of the predictions are off by less than **{middle}**."
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
