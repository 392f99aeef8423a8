"""`simtrain calibrate --runs` from outside."""

import json
from pathlib import Path

import pytest
from conftest import Run

RUNS = """model,cluster,gpus,seq,global_batch,tp,sp,zero,micro_batch,recompute,step_s
llama-3-8b,dgx-h100,16,8192,128,1,,3,1,selective,9.2
llama-3-8b,dgx-h100,16,8192,128,2,true,1,1,,9.6
llama-3-8b,dgx-h100,32,8192,128,1,,3,1,selective,4.8
"""
JOB = ("llama-3-8b", "dgx-h100", "--gpus", "16", "--seq", "8192", "--global-batch", "128", "--zero", "3")


def test_runs_of_ones_own_reach_every_answer(run: Run, tmp_path: Path) -> None:
    mine, scales = tmp_path / "mine.csv", tmp_path / "mine.toml"
    mine.write_text(RUNS, encoding="utf-8")
    answer = run("calibrate", "--runs", str(mine), "-o", str(scales), "--json")
    assert answer.code == 0, answer.err
    assert "--calibration" in answer.err
    (scale,) = json.loads(answer.out)["scales"]
    assert scale["scaled_mape"] < scale["raw_mape"]
    assert len(scale["of"]) == 3
    raw, own = (json.loads(run("simulate", *JOB, *more, "--json").out) for more in ((), ("--calibration", str(scales))))
    moved = own["plans"][0]["step_time_s"] / raw["plans"][0]["step_time_s"]
    assert moved == pytest.approx(scale["factor"]["value"])
    assert own["job"]["own"]["factor"]["evidence"] == "measured here"
    assert "calibrated" in run("simulate", *JOB, "--calibration", str(scales)).out


def test_a_plan_file_keeps_its_calibration(run: Run, tmp_path: Path) -> None:
    mine, scales, plan = tmp_path / "mine.csv", tmp_path / "mine.toml", tmp_path / "plan.json"
    mine.write_text(RUNS, encoding="utf-8")
    run("calibrate", "--runs", str(mine), "-o", str(scales))
    asked = ("llama-3-8b", "dgx-h100", "--gpus", "16", "--out", str(plan), "--calibration", str(scales))
    assert run("plan", *asked).code == 0
    assert "calibrated" in run("simulate", str(plan)).out


def test_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    mine, scales = tmp_path / "mine.csv", tmp_path / "mine.toml"
    mine.write_text(RUNS, encoding="utf-8")
    answer = run("calibrate", "--runs", str(mine), "-o", str(scales), "--dry-run")
    assert answer.code == 0
    assert "megatron-core on h100-sxm-80gb" in answer.out
    assert not scales.exists()


def test_wrong_rows_and_wrong_options_are_told_together(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text(RUNS.replace("9.6", "fast").replace("4.8", "-1"), encoding="utf-8")
    answer = run("calibrate", "--runs", str(mine), "-o", str(tmp_path / "none" / "mine.toml"))
    assert (answer.code, answer.out) == (2, "")
    for words in ("line 3 step_s = 'fast'", "line 4 step_s = '-1'", "--out"):
        assert words in answer.err
    assert run("calibrate", "-o", str(tmp_path / "mine.toml")).code == 2


def test_a_calibration_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "mine.toml"
    broken.write_text("[[scale]]\nstack = 1\n", encoding="utf-8")
    answer = run("simulate", "llama-9b", *JOB[1:], "--calibration", str(broken))
    assert answer.code == 2
    assert "llama-9b" in answer.err
    assert "scale.0.factor: is missing" in answer.err
