"""Plans trained on two ranks of this machine: same numbers as one process, messages and memory as predicted."""

import importlib
import json
import os
import signal
import sys
from dataclasses import replace
from math import exp, log
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
import torch
from loop_fixtures import EXPERTS, TREATED, Planned, Trained, alive, train

from simtrain.spec.calibration import device_rates
from simtrain.spec.library import path_of
from simtrain.validation import compare, launch, predict, refit, runs
from simtrain.views.validation import record

LAYOUTS = ("data 2", "tensor 2, sequence parallel", "pipeline 2", "zero 3, recomputed")
LIKE = {
    **dict.fromkeys(("interleaved", "breadth-first", "zb-v", "dualpipe-v"), "four layers, single"),
    **dict.fromkeys(("heads over context ranks", "ring"), "512 positions, single"),
}
TOLERANCE = 1e-4
"""Of losses in fp32 after six updates."""
WITHIN = {"pipeline 2": 0.08}
"""Of memory; 0.05, the target of the loop, where not named. A stage's prediction leaves out the weight gradient that
autograd adds to the kept one, which weighs in a model as small as this."""
NEAR = 1.5
"""Factor the median step over LAYOUTS may be off, less what other programs took. The loop's target is 1.2, for a quiet
machine; here others make caches cold and collectives late."""
TRIES = 3


def losses(parts: list[dict[str, Any]]) -> list[float]:
    """Of each step, the mean over the ranks that hold the head."""
    return [mean(step) for step in zip(*(part["losses"] for part in parts if part["losses"]), strict=True)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_plan_trains_as_one_process_does(name: str, trained: Trained) -> None:
    assert losses(trained[name][2]) == pytest.approx(losses(trained["single"][2]), abs=TOLERANCE)


@pytest.mark.parametrize("name", LIKE)
def test_other_schedules_and_context_train_as_one_process_does(name: str, trained: Trained) -> None:
    job, plan, parts = trained[name]
    assert losses(parts) == pytest.approx(losses(trained[LIKE[name]][2]), abs=TOLERANCE)
    for row in compare.compared(predict.predict(job, plan), parts):
        kind = row.name.split()[0]
        if kind in ("pipeline", "context", "heads"):
            assert row.predicted == row.measured, row


@pytest.mark.parametrize("name", LAYOUTS)
def test_messages_memory_and_time_are_as_predicted(name: str, trained: Trained) -> None:
    job, plan, parts = trained[name]
    prediction = predict.predict(job, plan)
    rows = compare.compared(prediction, parts)
    messages = [row for row in rows if row.name.split()[0] in ("data", "tensor", "pipeline")]
    assert messages
    for row in messages:
        assert row.predicted == row.measured, row
    by_name = {row.name: row for row in rows}
    assert by_name["tensors at the peak"].error == pytest.approx(0, abs=WITHIN.get(name, 0.05))
    assert by_name["optimizer states"].error == pytest.approx(0, abs=0.01)
    assert by_name["matmul"].measured is not None


def test_steps_take_as_long_as_predicted(trained: Trained, tmp_path: Path) -> None:
    """In the median over LAYOUTS; run again where the machine did something else meanwhile."""
    found = {name: trained[name] for name in LAYOUTS}
    for attempt in range(TRIES):
        errors = {}
        for name, (job, plan, parts) in found.items():
            rows = {row.name: row for row in compare.compared(predict.predict(job, plan), parts)}
            error = rows.get(compare.UNDISTURBED, rows["step"]).error
            assert error is not None
            errors[name] = error
        off = median(abs(log(1 + error)) for error in errors.values())
        print(f"steps off by a factor {exp(off):.2f} in the median:", errors)
        if off < log(NEAR):
            return
        folder = tmp_path / str(attempt)
        folder.mkdir()
        for name, (job, plan, _) in found.items():
            document = {"job": job.model_dump(mode="json"), "plans": [{"plan": plan.model_dump(mode="json")}]}
            (folder / f"{name}.plan").write_text(json.dumps(document))
        train(folder, 2, {name: str(folder / f"{name}.plan") for name in found})
        found = {name: (job, plan, runs.parts(folder / f"{name}.json")) for name, (job, plan, _) in found.items()}
    pytest.fail(f"steps are off by a factor {exp(off):.2f} in the median: {errors}")


def test_the_reference_product_takes_as_long_as_in_the_profile(trained: Trained) -> None:
    """What other programs take of the processor counts neither there nor here."""
    errors = [row.error for name in LAYOUTS for row in compare.reference(trained[name][0], trained[name][2])]
    assert len(errors) == len(LAYOUTS)
    assert median(abs(log(1 + error)) for error in errors if error is not None) < log(NEAR)


def test_records_refit_the_device(trained: Trained, tmp_path: Path, profile: Path) -> None:
    """Rates move to what was measured; a second round finds them where they are."""
    for name in LAYOUTS:
        job, plan, parts = trained[name]
        prediction = predict.predict(job, plan)
        document = record(job, plan, prediction, compare.compared(prediction, parts), "ok", "", parts, None)
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    (tmp_path / "fell.json").write_text(json.dumps({"status": "out of memory"}))
    read = refit.read(tmp_path)
    assert len(read) == len(LAYOUTS)
    (dry,) = refit.refit(read, write=False)
    assert not (profile / "rates.toml").exists()
    (first,) = refit.refit(read, write=True)
    assert (profile / "rates.toml").exists() == first.better
    (profile / "rates.toml").unlink(missing_ok=True)
    device_rates.cache_clear()
    assert first.after == dry.after
    assert set(first.errors_before) == set(LAYOUTS)


OPERATORS = {"matmul": "aten::mm", "attention": "flash_fwd", "elementwise": "aten::mul", "communication": "nccl"}


def as_if(planned: Planned, step: float, stage: int | None = None, **times: float) -> refit.Record:
    """A record whose terms took so many times what is predicted, and whose step `step` times."""
    job, plan, _ = planned(tp="2", sp=True)
    prediction = predict.predict(job, plan) if stage is None else predict.predict_slice(job, plan, stage)
    operators = [
        {"name": operator, "time_s": prediction.seconds[name] * times.get(name, 1.0)}
        for name, operator in OPERATORS.items()
    ]
    rank = {"rank": 0, "stage": 0, "step_times_s": [prediction.step_time * step], "operators": operators}
    return refit.Record("as if", job, plan, stage, [rank])


def test_a_refit_finds_the_rates_again(planned: Planned, profile: Path) -> None:
    record = as_if(planned, 1.5, matmul=2.0, elementwise=1.25, communication=9.0)
    (first,) = refit.refit([record], write=True)
    assert first.better
    assert first.after.matmul.value == pytest.approx(first.before.matmul.value / 2, rel=1e-3)
    assert first.after.elementwise.value == pytest.approx(first.before.elementwise.value / 1.25, rel=1e-3)
    assert first.after.scaleup == first.before.scaleup
    kept = (profile / "rates.toml").read_bytes()
    (second,) = refit.refit([record], write=True)
    assert second.after.matmul.value == pytest.approx(first.after.matmul.value, rel=1e-3)
    assert not second.better
    assert (profile / "rates.toml").read_bytes() == kept
    (profile / "rates.toml").unlink()
    device_rates.cache_clear()


def test_a_slice_enters_the_refit(planned: Planned) -> None:
    record = as_if(planned, 1.5, stage=0, matmul=2.0)
    (found,) = refit.refit([record], write=False)
    assert found.after.matmul.value == pytest.approx(found.before.matmul.value / 2, rel=1e-3)
    assert found.better


def test_a_refit_that_predicts_steps_worse_is_not_kept(planned: Planned, profile: Path) -> None:
    (found,) = refit.refit([as_if(planned, 1.5, matmul=0.7)], write=True)
    assert found.after.matmul.value > found.before.matmul.value
    assert not found.better
    assert not (profile / "rates.toml").exists()


def test_rates_beyond_reason_and_offloaded_passes_are_left_alone(planned: Planned) -> None:
    record = as_if(planned, 1.5, matmul=0.1, elementwise=1.5)
    offloaded = replace(record, plan=record.plan.model_copy(update={"offload": "all", "zero": 3}))
    (found,) = refit.refit([offloaded], write=False)
    assert list(found.refused) == ["matmul"]
    assert found.after.matmul == found.before.matmul
    assert found.after.elementwise == found.before.elementwise
    (cut,) = refit.refit([as_if(planned, 1.5, stage=0, elementwise=1.5)], write=False)
    assert cut.after.elementwise == cut.before.elementwise


def test_experts_exchange_and_train_the_same(trained: Trained) -> None:
    job, plan, parts = trained["experts 2"]
    assert losses(parts) == pytest.approx(losses(trained["experts, single"][2]), abs=TOLERANCE)
    rows = {(row.name, row.unit): row for row in compare.compared(predict.predict(job, plan), parts)}
    for unit in ("calls", "B"):
        row = rows["expert all-to-all", unit]
        assert row.predicted == row.measured


@pytest.mark.parametrize("name", ["memory plan", "selective", "optimizer on the host"])
def test_ways_to_save_memory_train_the_same(name: str, trained: Trained) -> None:
    assert losses(trained[name][2]) == pytest.approx(losses(trained["single"][2])[:4], abs=TOLERANCE)


def test_a_memory_plan_says_what_is_made_again_and_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path_of("validate")))
    memory, plan = importlib.import_module("run.memory"), TREATED.model_dump(mode="json")
    assert memory.treatment(plan, 0, 0, 2) == ({"normed", "activated", "attention"}, set())
    assert memory.treatment(plan, 0, 1, 2) == (set(), {"normed", "activated", "projected"})
    assert memory.treatment(plan, 1, 1, 2) == (set(), set())
    found = {}
    for kind in ("normed", "attention"):
        weight = torch.full((3,), 2.0, requires_grad=True)
        with memory._moving({"normed"}):
            x = memory.named(kind, torch.ones(3))
            y = (weight * x).sum()
        x.zero_()
        y.backward()
        found[kind] = weight.grad.tolist()
    assert found == {"normed": [1.0, 1.0, 1.0], "attention": [0.0, 0.0, 0.0]}, "what moved is a copy"
    for name in [name for name in sys.modules if name == "run" or name.startswith("run.")]:
        del sys.modules[name]


FOUR = {"experts 4": {"model": EXPERTS, "pp": "2", "ep": "2"}, "shards 2 of 4": {"zero": "3", "shard_group": "2"}}


@pytest.fixture(scope="module")
def by_four(planned: Planned, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Plans of four ranks."""
    folder = tmp_path_factory.mktemp("four")
    made = {name: planned(gpus=4, cluster="dgx-h100", **stated) for name, stated in FOUR.items()}
    train(folder, 4, {name: str(path) for name, (_, _, path) in made.items()})
    return {name: (job, plan, runs.parts(folder / f"{name}.json")) for name, (job, plan, _) in made.items()}


def test_experts_of_a_pipeline_are_averaged_where_they_are_held(trained: Trained, by_four: Trained) -> None:
    parts = by_four["experts 4"][2]
    assert losses(parts) == pytest.approx(losses(trained["experts, single"][2]), abs=TOLERANCE)


def test_states_in_shards_of_part_of_the_ranks(trained: Trained, by_four: Trained) -> None:
    job, plan, parts = by_four["shards 2 of 4"]
    assert losses(parts) == pytest.approx(losses(trained["single"][2])[:4], abs=TOLERANCE)
    rows = [row for row in compare.compared(predict.predict(job, plan), parts) if row.name.startswith("data ")]
    assert {row.name for row in rows} == {"data all-gather", "data reduce-scatter", "data all-reduce"}
    for row in rows:
        assert row.predicted == row.measured, row


def test_a_slice_is_one_rank_of_a_larger_plan(trained: Trained) -> None:
    job, plan, parts = trained["slice"]
    rows = {row.name: row for row in compare.compared(predict.predict_slice(job, plan, 0), parts)}
    assert rows["optimizer states"].error == pytest.approx(0, abs=0.01)
    assert parts[0]["messages"] == []
    assert rows["communication"].predicted == 0


def test_more_ranks_than_given_are_refused(planned: Planned) -> None:
    _, _, path = planned()
    wanted = runs.Wanted(
        plan=path, rank=1, ranks=1, device="cpu", backend="gloo", steps=1, stage=None, trace=None, limit=60.0
    )
    status, why, _ = runs.carried_out(wanted, lambda line: None)
    assert status == "failed"
    assert why == "the plan is for 2 ranks, 1 were started"


def test_a_killed_run_leaves_what_it_had(planned: Planned, tmp_path: Path) -> None:
    job, plan, path = planned(gpus=1)
    out = tmp_path / "record.json"
    wanted = runs.Wanted(
        plan=path, rank=1, ranks=1, device="cpu", backend="gloo", steps=1000, stage=None, trace=None, limit=60.0
    )

    def kill(line: str) -> None:
        if line.startswith("step 2 of"):
            os.kill(max(alive(str(out))), signal.SIGKILL)

    ended = launch.run(launch.torchrun("run", 1, runs.arguments(wanted, out)), 60.0, kill)
    status, why, parts = runs.judged(ended, runs.parts(out))
    assert status == "failed"
    assert "signal 9" in why
    assert len(parts[0]["step_times_s"]) >= 2
    assert {row.name for row in compare.compared(predict.predict(job, plan), parts)} >= {"step", "tensors at the peak"}
    out.write_text(json.dumps({"ranks": parts}))
    assert runs.read(out)[:2] == ("failed", "a rank was ended before its last step")
