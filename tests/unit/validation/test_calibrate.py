"""Calibration recovers numbers it was given, and reads its own files."""

import numpy as np
import pytest
from jobs import job, uncalibrated

from simtrain.estimate import estimate
from simtrain.spec.base import checked
from simtrain.spec.calibration import DEFAULT, DEVICES, ERRORS, FEWEST, STACKS, DeviceRates, LeftOut, left_out, table
from simtrain.spec.plan import Plan, PlanTable
from simtrain.validation.calibrate import HIGHEST, NUMBERS, Fit, Measured, owner
from simtrain.validation.calibration_files import documents, write
from simtrain.validation.corpus import Corpus, corpus
from simtrain.validation.memory_fit import NUMBER, allocators

TP = {"tp": 8, "sp": True, "dp": 1}
PLANS = [
    Plan(dp=8, zero=1, shard_group=8, global_batch=64, micro_batch=batch, recompute=mode)
    for batch in (1, 2, 4)
    for mode in ("none", "full")
] + [Plan(**TP, global_batch=64, micro_batch=batch) for batch in (1, 2, 4, 8)]


def runs(slower: float, stack: str = "megatron-core") -> list[Measured]:
    """Runs that take `slower` times what is predicted at the rates of the tables."""
    asked = job("llama-3-8b", gpus=8, global_batch=64, stack=stack)
    times = estimate(asked, PlanTable.of(PLANS), uncalibrated(asked)).step_time * slower
    return [
        Measured(f"run {i}", "made up", f"sweep {i % 3}", asked, plan, float(time))
        for i, (plan, time) in enumerate(zip(PLANS, times, strict=True))
    ]


def test_slower_runs_are_explained() -> None:
    found = Fit(runs(1.25)).solve()
    assert np.abs(np.expm1(found.error)).max() < 0.06
    assert np.abs(np.expm1(found.left_out)).max() < 0.09
    rate = found.numbers["architecture"]["hopper"]["matmul"] * found.numbers["stack"]["megatron-core"]["matmul_rate"]
    assert rate < 0.9


def test_no_rate_passes_the_data_sheet() -> None:
    found = Fit(runs(0.5)).solve()
    for kind, owners in found.numbers.items():
        for numbers in owners.values():
            assert set(numbers) <= set(NUMBERS[kind])
            assert all(value <= HIGHEST.get(number, np.inf) * (1 + 1e-9) for number, value in numbers.items())


def test_equal_fits_give_equal_files(tmp_path) -> None:
    made = runs(1.1)
    for name in ("one", "other"):
        write(tmp_path / name, documents(made, Fit(made).solve()))
    for file in (DEVICES, STACKS, ERRORS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_what_allocators_lose_is_written_beside_the_rates() -> None:
    made, found = runs(1.1), corpus()
    few = Corpus(tuple(row for row in found.rows if row.source == "layouts-2023"), found.models)
    (lost,) = allocators(few)
    written = documents(made, Fit(made).solve(), [lost])[STACKS]
    assert written["aa-scaling"][NUMBER]["value"] == pytest.approx(lost.share, rel=1e-3)
    assert written["aa-scaling"][NUMBER]["source"] == "simtrain calibrate: 324 runs of layouts-2023"
    assert "matmul_rate" in written["megatron-core"]


def test_shipped_numbers_are_what_the_program_reads() -> None:
    devices, errors = table(DEVICES), table(ERRORS)
    assert set(devices[DEFAULT]) == set(DeviceRates.model_fields)
    for name, entry in devices.items():
        assert checked(DeviceRates, entry, name)
    for name, entry in errors.items():
        assert 0 < checked(LeftOut, entry, name).median <= entry["p90"]
    for entry in table(STACKS).values():
        assert set(entry) <= {*NUMBERS["stack"], NUMBER}


def test_what_no_run_depends_on_is_not_called_measured() -> None:
    """Small launches hide behind these layers, so the runs say nothing of them."""
    made = runs(1.1, "torchtitan")
    stack = documents(made, Fit(made).solve())[STACKS]["torchtitan"]
    assert "matmul_rate" in stack
    assert "launch" not in stack


def test_few_runs_take_the_errors_of_a_wider_group() -> None:
    few = next(name for name, entry in table(ERRORS).items() if " on " in name and entry["runs"] < FEWEST)
    stack, device = few.split(" on ")
    found = left_out(stack, device)
    assert found is not None
    assert found[1] != few


def test_owners_of_a_part_that_names_another_profile() -> None:
    asked = job("llama-3-8b", "hgx-h800", gpus=8)
    assert [owner(asked, kind) for kind in NUMBERS] == ["hopper", "h100-sxm-80gb", "hgx-h800", "megatron-core"]


def test_few_numbers_are_fitted() -> None:
    """At most five a stack and twelve a device, with those of its architecture and node."""
    assert sum(len(NUMBERS[kind]) for kind in ("architecture", "device", "node")) <= 12
    for name, entry in table(STACKS).items():
        assert len(entry) <= 5, name


def test_what_a_stack_has_none_of_is_not_fitted() -> None:
    """Hosts that no stack file says to be late for rebuilding stay on time."""
    for stack, late in (("megatron-core", False), ("aa-scaling", True)):
        assert (("stack", stack, "rebuild_wait") in Fit(runs(1.1, stack)).names) == late


def test_what_a_stack_documents_is_not_fitted() -> None:
    """Megatron-Core's launch was measured; its library rate is an assumption."""
    fit = Fit(runs(1.1))
    fitted = {number for kind, _, number in fit.names if kind == "stack"}
    assert "matmul_rate" in fitted
    assert "launch" not in fitted
