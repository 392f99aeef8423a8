"""Energy a validation run is predicted to take."""

from pathlib import Path

import pytest
from jobs import job

from simtrain.price.stock_power import stock_power
from simtrain.spec.base import Evidence
from simtrain.spec.load import device
from simtrain.spec.plan import Plan
from simtrain.study.energy import at_largest, laid, own_profile
from simtrain.validation.compare import compared
from simtrain.validation.predict import predict, predict_slice
from simtrain.validation.worker import worker_job

PLAN = Plan(tp=2, sp=True, pp=2, dp=2, global_batch=16)


def test_joules_are_those_of_largest_clocks_and_an_optimizer_that_works() -> None:
    asked = worker_job(job("llama-3-8b", gpus=8))
    found = predict(asked, PLAN)
    assert own_profile(asked, PLAN) is None
    fine = laid(asked, PLAN, None)
    watts = stock_power(asked.cluster.device)
    point = at_largest(fine)
    host = fine.standing / fine.graph.ranks - watts["idle"].value
    waiting = 8 / fine.graph.ranks * point.joules - 8 * host * point.seconds
    working = 8 * found.seconds["optimizer"] * (watts["memory"].value - watts["idle"].value)
    assert found.joules == pytest.approx(waiting + working, rel=0.01)
    assert found.joules_evidence is Evidence.ASSUMED
    alone = predict_slice(asked, PLAN, 0)
    assert 0 < alone.joules < found.joules / 8


def test_measured_powers_replace_the_law(tmp_path: Path) -> None:
    (tmp_path / "power.csv").write_text("name,power_w,time_s,note\nmatmul,655,2.1,\nidle,118,2.0,\n")
    plain = device("h200-sxm-141gb")
    own = stock_power(plain.model_copy(update={"profile": str(tmp_path)}))
    assert (own["matmul"].value, own["idle"].value) == (655, 118)
    assert own["matmul"].evidence is Evidence.MEASURED_HERE
    assert own["memory"] == stock_power(plain)["memory"]


def test_energy_is_measured_only_where_every_rank_has_a_counter() -> None:
    found = predict(worker_job(job("llama-3-8b", gpus=8)), PLAN)
    counted = {"step_times_s": [1.0], "energy": {"energy_per_step_j": 300.0}}
    refused = {"step_times_s": [1.0], "machine": {"sensors": {"note": "nvmlInit_v2: no permission"}}}
    (both,) = (row for row in compared(found, [counted, counted]) if row.unit == "J")
    (one,) = (row for row in compared(found, [counted, refused]) if row.unit == "J")
    assert both.measured == 600
    assert one.measured is None
    assert one.note.endswith("not measured: nvmlInit_v2: no permission")
