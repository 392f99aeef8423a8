"""A point of a sweep: energy and money with their intervals."""

import pytest
from jobs import job

from simtrain.spec.plan import Plan
from simtrain.study.bill import rates
from simtrain.study.energy import at_largest, laid, own_profile, power_grounds
from simtrain.views.point import EMPTY, best_row


def test_energy_is_that_of_the_replay_at_the_largest_clocks() -> None:
    asked = job(gpus=16, tokens=1e12)
    row = best_row(asked)
    plan = Plan.model_validate({name: row[f"plan_{name}"] for name in Plan.model_fields})
    fine = laid(asked, plan, own_profile(asked, plan))
    machines = asked.devices // fine.graph.ranks * at_largest(fine).joules
    assert row["step_energy_j"] == pytest.approx(rates(asked, None, None, None, None).pue * machines)
    assert row["run_energy_j"] == pytest.approx(row["run_steps"] * row["step_energy_j"])
    grounds = power_grounds(asked, None)
    assert (row["energy_evidence"], row["energy_off_by"]) == (grounds.evidence.value, grounds.off)


def test_intervals_hold_what_they_are_of() -> None:
    row = best_row(job(gpus=16, tokens=1e12))
    for name in ("step_energy{}_j", "run_energy{}_j", "run_time{}_s", "run_cost{}_usd", "cost_per_step{}_usd"):
        low, middle, high = (row[name.format(end)] for end in ("_low", "", "_high"))
        assert 0 < low < middle < high
    longer = row["step_time_high_s"] / row["step_time_s"] - 1
    assert row["run_cost_high_usd"] / row["run_cost_usd"] == pytest.approx(1 + longer)
    assert row["step_energy_high_j"] / row["step_energy_j"] - 1 > max(longer, row["energy_off_by"])


def test_keys_are_the_same_where_nothing_fits_and_without_tokens() -> None:
    found, nothing = best_row(job(gpus=8)), best_row(job("llama-3-70b", gpus=1))
    assert list(found) == list(nothing) == ["devices", "sequence", "fits", *EMPTY]
    assert found["fits"]
    assert found["run_energy_j"] is None
    assert not nothing["fits"]
    assert nothing["step_energy_j"] is None
