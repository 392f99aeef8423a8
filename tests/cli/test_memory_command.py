"""`simtrain memory`, and `plan` and `simulate` with memory plans, from outside."""

import itertools
import json
from pathlib import Path

import pytest
from conftest import Run

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "8", "--seq", "16k", "--global-batch", "16")


@pytest.fixture
def answer(run: Run) -> dict:
    return json.loads(run("plan", *JOB, "--top", "2", "--out", "plan.json", "--json").out)


def test_less_memory_takes_no_less_time(run: Run, answer: dict) -> None:
    found = json.loads(run("memory", "plan.json", "--points", "5", "--json").out)
    points = found["points"]
    assert len(points) > 1
    for more, less in itertools.pairwise(points):
        assert less["memory_bytes"] < more["memory_bytes"]
        assert less["step_time_s"] > more["step_time_s"]
    assert points[-1]["memory_bytes"] == pytest.approx(found["least_cap_bytes"])
    assert found["within_cap"]["memory_bytes"] <= found["cap_bytes"]
    assert found["peak"]["live_bytes"] <= found["peak"]["packed_bytes"]


def test_what_is_written_is_simulated_and_traced_alike(run: Run, answer: dict) -> None:
    cap = answer["plans"][0]["memory_bytes"] * 0.8 / 2**30
    outcome = run(
        "memory", "plan.json", "--points", "2", "--memory-cap", f"{cap:.3f}GiB", "--out", "lean.json", "--json"
    )
    assert outcome.code == 0
    said = json.loads(outcome.out)["within_cap"]
    again = json.loads(run("simulate", "lean.json", "--json").out)["plans"][0]
    assert again["step_time_s"] == pytest.approx(said["step_time_s"])
    assert again["memory_bytes"] == pytest.approx(said["memory_bytes"])
    assert again["memory_bytes"] <= cap * 2**30
    assert again["plan"]["memory"] == said["plan"]["memory"]
    assert run("trace", "lean.json").code == 0
    streams = {
        event["args"].get("name")
        for event in json.loads(Path("step.json").read_text())["traceEvents"]
        if "args" in event
    }
    assert "device to host" in streams


def test_a_search_with_memory_plans_is_never_slower(run: Run, answer: dict) -> None:
    treated = json.loads(run("plan", *JOB, "--top", "2", "--allow", "recompute,cpu", "--json").out)
    assert treated["plans"][0]["step_time_s"] <= answer["plans"][0]["step_time_s"] * (1 + 1e-9)


def test_a_cap_is_kept(run: Run) -> None:
    found = json.loads(run("plan", *JOB, "--memory-cap", "40GiB", "--json").out)
    assert found["job"]["cluster"]["device"]["memory"]["source"] == "--memory-cap"
    assert all(plan["memory_bytes"] <= 40 * 2**30 for plan in found["plans"])


def test_states_stay_on_the_device_where_told(run: Run) -> None:
    job = ("gpt-3-13b", "dgx-2", "--gpus", "1", "--seq", "1024", "--global-batch", "8", "--stack", "deepspeed-2021")
    assert run("plan", *job).code == 0
    assert run("plan", *job, "--no-offload").code == 1


def test_nothing_keeps_so_small_a_cap(run: Run, answer: dict) -> None:
    outcome = run("memory", "plan.json", "--points", "2", "--memory-cap", "3GiB", "--out", "lean.json")
    assert outcome.code == 1
    assert "Nothing keeps 3.0 GiB: the least is" in outcome.out
    assert not Path("lean.json").exists()


def test_all_that_is_wrong_at_once(run: Run, answer: dict) -> None:
    outcome = run(
        "memory",
        "plan.json",
        "--rank",
        "9",
        "--allow",
        "recompute,cpus",
        "--memory-cap",
        "40",
        "--points",
        "1",
        "--out",
        "no/x",
    )
    assert outcome.code == 2
    assert len(outcome.errors) == 5
    assert "did you mean cpu" in outcome.err
    assert "has no unit" in outcome.err


def test_a_memory_plan_of_other_stages_is_refused(run: Run, answer: dict) -> None:
    plan = answer["plans"][0]["plan"]
    plan["recompute"], plan["full_layers"] = "none", 0
    tensors = {"normed": {"recompute": 999}}
    plan["memory"] = {"stages": [{"first": 0, "last": 99, "tensors": tensors}]}
    Path("plan.json").write_text(json.dumps(answer))
    outcome = run("simulate", "plan.json")
    assert outcome.code == 2
    assert len(outcome.errors) == 2
    plan["memory"]["stages"][0]["tensors"] = {"input": {"recompute": 1}}
    Path("plan.json").write_text(json.dumps(answer))
    assert "a layer starts from it" in run("simulate", "plan.json").err


STATES = ("llama-3-8b", "dgx-h100", "--gpus", "8", "--seq", "2k", "--global-batch", "16", "--stack", "deepspeed")


def test_states_go_where_they_are_told(run: Run) -> None:
    """Host memory and drives hold what the device does not, and both are said."""
    shown = run("simulate", *STATES, "--zero", "3", "--offload", "weights=cpu,optimizer=nvme")
    assert shown.code == 0
    assert "offload:weights=cpu,optimizer=nvme" in shown.out
    assert "drives" in shown.out
    (plan,) = json.loads(run("simulate", *STATES, "--zero", "3", "--offload", "optimizer=nvme", "--json").out)["plans"]
    assert plan["host_memory_bytes"] == 0
    assert plan["drives_bytes"] == pytest.approx(14 * 8.03e9 / 8, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--zero", "3", "--offload", "weights=disk"), "is no place for weights"),
        (("--zero", "2", "--offload", "all"), "weights leave the device where they are sharded"),
        (("--zero", "3", "--offload", "moments"), "the stack can offload this"),
        (("--freeze", "ffn"), "is no part of a model"),
    ],
)
def test_states_and_parts_that_cannot_be(run: Run, arguments: tuple[str, ...], said: str) -> None:
    outcome = run("simulate", *STATES, *arguments)
    assert outcome.code == 2
    assert said in outcome.err


def test_drives_that_no_file_states(run: Run) -> None:
    outcome = run("simulate", "llama-3-8b", "h100-pcie-8x", *STATES[2:], "--zero", "3", "--offload", "all=nvme")
    assert outcome.code == 2
    assert "drives hold states where there are drives" in outcome.err


def test_frozen_parts_are_not_trained(run: Run) -> None:
    all_, part = (
        json.loads(run("simulate", *STATES, "--zero", "1", *more, "--json").out)
        for more in ((), ("--freeze", "embedding,attention=0.5"))
    )
    assert part["job"]["freeze"] == {"embedding": 1.0, "attention": 0.5}
    assert part["plans"][0]["step_time_s"] < all_["plans"][0]["step_time_s"]
    assert part["plans"][0]["memory_bytes"] < all_["plans"][0]["memory_bytes"]


def test_a_system_with_one_plan_for_every_cap_is_shown(run: Run) -> None:
    """ZeRO-Infinity always does all it does: states on drives, inputs of layers in host memory."""
    Path("plan.json").write_text(run("simulate", *STATES, "--zero", "3", "--json").out)
    (point,) = json.loads(run("memory", "plan.json", "--points", "3", "--policy", "zero-infinity", "--json").out)[
        "points"
    ]
    assert point["plan"]["offload"] == "all=nvme"
    assert point["plan"]["memory"]["stages"][0]["tensors"]["input"]["offload"] == 32
    assert point["agrees"]
