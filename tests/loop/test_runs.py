"""Plans trained for real on two ranks of this machine: same numbers as one process, messages and memory as predicted."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from simtrain.validation import compare, refit
from simtrain.views.validation import record
from tests.loop.conftest import Planned, Trained

LAYOUTS: dict[str, dict[str, Any]] = {
    "data 2": {},
    "tensor 2, sequence parallel": {"tp": "2", "sp": True},
    "pipeline 2": {"pp": "2"},
    "zero 3, recomputed": {"zero": "3", "recompute": "full"},
}
TOLERANCE = 1e-4
"""Of losses in fp32 after six updates."""
WITHIN = 0.05
"""Of memory: the target of the loop."""
GENEROUS = 20.0
"""Step times on a machine that others use may be off by this factor before a test fails."""


@pytest.fixture(scope="module")
def records() -> Iterator[dict[str, dict[str, Any]]]:
    """Of the runs below, for the refit."""
    yield {}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_plan_runs_as_predicted(
    name: str, planned: Planned, trained: Trained, single: list[float], records: dict[str, dict[str, Any]]
) -> None:
    job, plan, path = planned(**LAYOUTS[name])
    prediction = compare.predict(job, plan)
    status, why, parts = trained(path, 2)
    assert status == "ok", why
    losses = [part["losses"] for part in parts if part["losses"]]
    assert [mean(step) for step in zip(*losses, strict=True)] == pytest.approx(single, abs=TOLERANCE)
    rows = compare.compared(prediction, parts)
    messages = [row for row in rows if row.name.split()[0] in ("data", "tensor", "pipeline")]
    assert messages
    for row in messages:
        assert row.predicted == row.measured, row
    by_name = {row.name: row for row in rows}
    assert by_name["tensors at the peak"].error == pytest.approx(0, abs=WITHIN)
    assert by_name["optimizer states"].error == pytest.approx(0, abs=0.01)
    step = by_name["step"]
    assert step.measured is not None
    assert 1 / GENEROUS < prediction.step_time / step.measured < GENEROUS
    assert by_name["matmul"].measured is not None
    records[name] = record(job, plan, prediction, rows, status, why, parts, None)


def test_records_refit_the_device(records: dict[str, dict[str, Any]], tmp_path: Path, profile: Path) -> None:
    """Rates move to what was measured; a second round finds them where they are."""
    assert len(records) == len(LAYOUTS)
    for name, document in records.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "fell.json").write_text(json.dumps({"status": "out of memory"}))
    read = refit.read(tmp_path)
    assert len(read) == len(LAYOUTS)
    (dry,) = refit.refit(read, write=False)
    assert not (profile / "rates.toml").exists()
    (first,) = refit.refit(read, write=True)
    assert first.after == dry.after
    assert first.after != first.before
    assert set(first.errors_before) == set(LAYOUTS)
    (second,) = refit.refit(read, write=True)
    (profile / "rates.toml").unlink()
    assert second.after.matmul.value == pytest.approx(first.after.matmul.value, rel=0.01)


def test_experts_exchange_and_train_the_same(planned: Planned, trained: Trained) -> None:
    experts = "[experts]\ncount = 4\ntop_k = 2\nffn = 256\n"
    _, _, alone = planned(gpus=1, model=experts)
    status, why, parts = trained(alone, 1)
    assert status == "ok", why
    job, plan, path = planned(model=experts, ep="2")
    status, why, both = trained(path, 2)
    assert status == "ok", why
    losses = [mean(step) for step in zip(*(part["losses"] for part in both), strict=True)]
    assert losses == pytest.approx(parts[0]["losses"], abs=TOLERANCE)
    rows = {(row.name, row.unit): row for row in compare.compared(compare.predict(job, plan), both)}
    for unit in ("calls", "B"):
        row = rows["expert all-to-all", unit]
        assert row.predicted == row.measured


def test_a_slice_is_one_rank_of_a_larger_plan(planned: Planned, trained: Trained) -> None:
    job, plan, path = planned(tp="2", sp=True)
    status, why, parts = trained(path, 1, stage=0)
    assert status == "ok", why
    rows = {row.name: row for row in compare.compared(compare.predict_slice(job, plan, 0), parts)}
    assert rows["optimizer states"].error == pytest.approx(0, abs=0.01)
    assert parts[0]["messages"] == []
    assert rows["communication"].predicted == 0


def test_more_ranks_than_given_are_refused(planned: Planned, trained: Trained) -> None:
    _, _, path = planned()
    status, why, _ = trained(path, 1)
    assert status == "failed"
    assert why == "the plan is for 2 ranks, 1 were started"
