"""A first plan: one model, one cluster, the best layouts."""

import marimo

app = marimo.App(width="medium", app_title="A first plan")


@app.cell
def _():
    import marimo as mo

    import simtrain as st

    return mo, st


@app.cell
def _(mo):
    mo.md("""
    # A first plan

    Which layout trains a model fastest on the GPUs you have? Move the sliders; everything below follows. A model or a cluster of
    your own joins the lists with `marimo edit notebooks/first_plan.py -- --model path/to/config.json --cluster my-cluster.toml`.
    """)
    return


@app.cell
def _(mo):
    own = mo.cli_args()
    models = [own.get("model") or "llama-3-8b", "llama-2-13b", "llama-3-70b", "mixtral-8x7b"]
    clusters = [own.get("cluster") or "dgx-h100", "dgx-a100", "dgx-b200"]
    model = mo.ui.dropdown(models, models[0], label="model")
    cluster = mo.ui.dropdown(clusters, clusters[0], label="cluster")
    gpus = mo.ui.slider(steps=[8, 16, 32, 64, 128, 256, 512], value=32, label="GPUs", show_value=True)
    batch = mo.ui.slider(steps=[64, 128, 256, 512, 1024], value=256, label="sequences a step", show_value=True)
    mo.hstack([model, cluster, gpus, batch])
    return batch, cluster, gpus, model


@app.cell
def _(batch, cluster, gpus, model, st):
    answer = st.plan(st.job(model.value, cluster.value, gpus=gpus.value, global_batch=batch.value, tokens="1T"))
    answer
    return (answer,)


@app.cell
def _(mo):
    mo.md("""
    The same as rows, which pandas and polars take as they are:
    """)
    return


@app.cell
def _(answer):
    answer.rows
    return


@app.cell
def _(mo):
    mo.md("""
    What would more of each resource be worth?
    """)
    return


@app.cell
def _(answer, mo, st):
    st.explain(answer) if answer.rows else mo.md("Nothing fits.")
    return


@app.cell
def _(mo):
    mo.md("""
    ## Predicted and measured

    Four runs of Korthikanti et al. 2022 (arXiv 2205.05198, table 5), predicted from their configuration alone. Rates of the
    device and the stack were fitted to published runs, these among them; the README states errors left out of the fit.
    """)
    return


@app.cell
def _(mo, st):
    runs = st.score("korthikanti-2022")
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
