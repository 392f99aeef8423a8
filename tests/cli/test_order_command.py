"""`simtrain simulate --order`: a schedule of one's own."""

import json
from pathlib import Path

import pytest
from conftest import Run
from pipelines import written

from simtrain.timeline.order import Order
from simtrain.timeline.schedules import gpipe, one_f_one_b

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "8", "--global-batch", "8", "--pp", "4", "--tp", "2")


def table(order: Order, path: str = "order.csv") -> str:
    Path(path).write_text("".join(",".join(row) + "\n" for row in written(order)))
    return path


def step_time(run: Run, *more: str) -> float:
    outcome = run("simulate", *JOB, *more, "--json")
    assert outcome.code in (0, 1), outcome.err
    return json.loads(outcome.out)["plans"][0]["step_time_s"]


def test_the_schedules_own_order_changes_nothing(run: Run) -> None:
    assert step_time(run, "--order", table(one_f_one_b.order(4, 1, 8))) == step_time(run)


def test_another_order_is_another_step(run: Run) -> None:
    """GPipe's order under the name of 1F1B is GPipe: as fast, but it keeps all microbatches."""
    outcome = run("simulate", *JOB, "--order", table(gpipe.order(4, 1, 8)), "--json")
    plain, given = (
        json.loads(text)["plans"][0]
        for text in (run("simulate", *JOB, "--schedule", "gpipe", "--json").out, outcome.out)
    )
    assert given["step_time_s"] == pytest.approx(plain["step_time_s"], rel=1e-9)
    assert given["memory_by_class_bytes"] == pytest.approx(plain["memory_by_class_bytes"])


def test_an_order_of_another_shape(run: Run) -> None:
    outcome = run("simulate", *JOB, "--order", table(one_f_one_b.order(2, 1, 4)))
    assert (outcome.code, outcome.out) == (2, "")
    assert "order: stages = 2: must be the plan's 4" in outcome.err
    assert "order: microbatches = 4: must be the plan's 8" in outcome.err


def test_an_order_that_waits_for_itself(run: Run) -> None:
    rows = [",".join(row) for row in written(one_f_one_b.order(4, 1, 8))]
    rows[3] = "3B0,3F0," + rows[3].split(",", 2)[2]
    Path("order.csv").write_text("\n".join(rows) + "\n")
    outcome = run("simulate", *JOB, "--order", "order.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "never ends" in outcome.err
    assert "backward of microbatch 0" in outcome.err


def test_an_order_that_is_not_there(run: Run) -> None:
    outcome = run("simulate", *JOB, "--order", "none.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert "none.csv" in outcome.err
