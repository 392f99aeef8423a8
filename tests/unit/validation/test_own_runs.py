"""A user's few runs: read, scaled, written, applied."""

from pathlib import Path

import numpy as np
import pytest
from jobs import job

from simtrain.errors import WrongInput
from simtrain.estimate import detailed, estimate, machine
from simtrain.spec.base import Evidence
from simtrain.spec.calibration import left_out, own_scale
from simtrain.spec.plan import Plan, PlanTable
from simtrain.validation.own_runs import NOISE, SPREAD, fits, read, write

HEADER = "model,cluster,gpus,seq,global_batch,tp,sp,zero,micro_batch,recompute,step_s"
ROWS = (
    "llama-3-8b,dgx-h100,16,8192,128,1,,3,1,selective,",
    "llama-3-8b,dgx-h100,16,8192,128,2,true,1,1,,",
    "llama-3-8b,dgx-h100,32,8192,128,1,,3,1,selective,",
)


def file(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "mine.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def slower(folder: Path, factors: tuple[float, ...]) -> Path:
    """Runs that took `factors` times what is predicted."""
    predicted = [run.predicted for run in read(file(folder, *(f"{row}1" for row in ROWS)))]
    times = [f"{row}{time * factor}" for row, time, factor in zip(ROWS, predicted, factors, strict=False)]
    return file(folder, *times)


def test_three_runs_suffice(tmp_path: Path) -> None:
    (found,) = fits(read(slower(tmp_path, (1.25, 1.25, 1.25))), "mine.csv")
    assert (found.scale.stack, found.scale.device, found.scale.runs) == ("megatron-core", "h100-sxm-80gb", 3)
    assert found.scale.factor.value == pytest.approx(1.25, rel=0.01)
    assert found.raw == pytest.approx([-np.log(1.25)] * 3)
    assert np.abs(found.after).max() < 0.01
    assert np.abs(found.left_out).max() < 0.015


def test_one_run_moves_most_of_the_way(tmp_path: Path) -> None:
    (found,) = fits(read(slower(tmp_path, (1.25,))), "mine.csv")
    assert np.log(found.scale.factor.value) == pytest.approx(np.log(1.25) / (1 + (NOISE / SPREAD) ** 2), abs=1e-3)
    assert found.left_out == pytest.approx(found.raw), "no other run speaks for it"


def test_the_interval_follows_what_the_scale_leaves(tmp_path: Path) -> None:
    shipped = left_out("megatron-core", "h100-sxm-80gb")
    assert shipped is not None
    (alike,) = fits(read(slower(tmp_path, (1.2, 1.2, 1.2))), "mine.csv")
    (apart,) = fits(read(slower(tmp_path, (0.7, 1.2, 1.9))), "mine.csv")
    assert alike.scale.p90 < shipped[0].p90 < apart.scale.p90


def test_a_written_scale_moves_every_answer_and_says_why(tmp_path: Path) -> None:
    found = fits(read(slower(tmp_path, (1.3, 1.3, 1.3))), "mine.csv")
    write(tmp_path / "mine.toml", found)
    scale = own_scale(tmp_path / "mine.toml", "megatron-core", "h100-sxm-80gb")
    assert scale == found[0].scale
    assert scale.factor.evidence is Evidence.MEASURED_HERE
    assert "mine.csv: 3 runs" in scale.factor.source
    plain = job("llama-3-8b", gpus=16)
    own = plain.model_copy(update={"own": scale})
    plans, on = PlanTable.of([Plan(dp=16, zero=3, shard_group=16, global_batch=64)]), machine(plain)
    assert estimate(own, plans, on).step_time == pytest.approx(
        estimate(plain, plans, on).step_time * scale.factor.value
    )
    _, made = detailed(own, plans, on)
    assert made.high / made.low == pytest.approx((1 + scale.p90) ** 2)
    with pytest.raises(WrongInput, match="no runs of torchtitan on h100-sxm-80gb"):
        own_scale(tmp_path / "mine.toml", "torchtitan", "h100-sxm-80gb")


def test_each_stack_and_device_has_its_own_scale(tmp_path: Path) -> None:
    rows = ("llama-3-8b,a100-sxm-80gb,8,64,9.0,", "llama-3-8b,h100-sxm-80gb,8,64,9.0,torchtitan")
    path = file(tmp_path, *rows, header="model,gpu,gpus,global_batch,step_s,stack")
    with pytest.raises(WrongInput) as wrong:
        read(file(tmp_path, "llama-3-8b,a100-sxm,8,64,9.0,", header="model,gpu,gpus,global_batch,step_s,stack"))
    assert "a100-sxm-80gb" in wrong.value.problems[0].hint
    file(tmp_path, *rows, header="model,gpu,gpus,global_batch,step_s,stack")
    pairs = [(fit.scale.stack, fit.scale.device) for fit in fits(read(path), "mine.csv")]
    assert pairs == [("megatron-core", "a100-sxm-80gb"), ("torchtitan", "h100-sxm-80gb")]


def test_every_problem_of_every_row_is_told(tmp_path: Path) -> None:
    path = file(
        tmp_path,
        "llama-3-8b,dgx-h100,16,8192,128,3,perhaps,3,1,selective,fast",
        "llama-9b,dgx-h100,16,8192,128,1,,7,1,selective,0",
        "llama-3-8b,dgx-h100,16",
    )
    with pytest.raises(WrongInput) as wrong:
        read(path)
    told = "\n".join(map(str, wrong.value.problems))
    for words in (
        "line 2 step_s = 'fast'",
        "line 2 sp = 'perhaps'",
        "line 2 layout (tp 3)",
        "line 3 step_s = '0'",
        "llama-9b",
        "line 3 zero = '7'",
        "line 4: must have 11 cells",
    ):
        assert words in told


def test_runs_that_cannot_be_said_are_refused(tmp_path: Path) -> None:
    header = HEADER + ",task,fsdp,offload"
    with pytest.raises(WrongInput) as wrong:
        read(file(tmp_path, ROWS[0] + "7.1,lora,true,cpu", header=header))
    told = "\n".join(map(str, wrong.value.problems))
    assert all(words in told for words in ("task = 'lora'", "fsdp = 'true'", "offload = 'cpu'"))


def test_columns_that_are_missing_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(WrongInput) as wrong:
        read(file(tmp_path, "llama-3-8b,16,9", header="model,gpus,steps_s"))
    told = "\n".join(map(str, wrong.value.problems))
    for words in ("'steps_s': is not known", "'step_s': is missing", "'global_batch'", "'cluster'"):
        assert words in told
    with pytest.raises(WrongInput, match="holds no runs"):
        read(file(tmp_path))
