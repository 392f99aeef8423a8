"""From plan to measured run."""

import marimo

app = marimo.App(width="medium", app_title="From plan to measured run")


@app.cell
def _():
    import marimo as mo

    import simtrain as st

    return mo, st


@app.cell
def _(mo):
    mo.md("""
    # From plan to measured run

    Plan, write the plan down, run it, and compare. `simtrain simulate plan.json` says what to expect; a few runs of your own
    (`simtrain calibrate --runs mine.csv`) turn the prediction into one for your machines.
    """)
    return


@app.cell
def _(st):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    answer = st.plan(st.job("llama-2-13b", "hgx-a100-4x200", gpus=64, seq="2k", global_batch=2048))
    with TemporaryDirectory() as folder:
        answer.write(f"{folder}/plan.json")
        size = Path(f"{folder}/plan.json").stat().st_size
    answer
    return answer, size


@app.cell
def _(mo, size):
    mo.md(f"The plan file takes {size / 1e3:.0f} kB: job, ranked plans, and what each is made of.")
    return


@app.cell
def _(mo):
    mo.md("""
    ## Predicted and measured

    As if they were yours: the runs of Hagemann et al. 2023 (arXiv 2311.05610), 13 to 65 billion parameters on A100. How many
    of them do you take to scale the prediction?
    """)
    return


@app.cell
def _(mo):
    taken = mo.ui.slider(3, 30, value=3, label="runs of your own", show_value=True)
    taken
    return (taken,)


@app.cell
def _(mo, st, taken):
    from math import exp, log

    runs = st.score("layouts-2023")
    step = len(runs) // taken.value
    own, others = runs[::step][: taken.value], [row for place, row in enumerate(runs) if place % step]
    scale = exp(sum(log(row["measured_s"] / row["predicted_s"]) for row in own) / len(own))

    def off(factor):
        return sum(abs(factor * row["predicted_s"] / row["measured_s"] - 1) for row in others) / len(others)

    mo.vstack(
        [
            mo.ui.table(list(runs), selection=None),
            mo.md(
                f"{len(own)} runs scale predictions by **{scale:.3f}**. The mean error of the other {len(others)} runs is "
                f"**{off(1):.1%}** without and **{off(scale):.1%}** with it."
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
