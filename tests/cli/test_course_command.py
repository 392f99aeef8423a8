"""`--slow` and `--durations` of simulate and trace."""

import json
from pathlib import Path

import pytest
from conftest import Run

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "16", "--global-batch", "16", "--pp", "4", "--tp", "2")
SLOW = ("--slow", "stage=3:1.2", "--slow", "replica=1:1.1")


def test_what_a_step_becomes(run: Run) -> None:
    planned, slowed = (json.loads(run("simulate", *JOB, *more, "--json").out) for more in ((), SLOW))
    before, after = planned["plans"][0]["step_time_s"], slowed["plans"][0]["step_time_s"]
    assert "course" not in planned
    assert slowed["course"] == {
        "order": None,
        "slow": ["stage=3:1.2", "replica=1:1.1"],
        "durations": None,
        "planned_step_time_s": before,
    }
    assert 1.1 * before < after < 1.32 * before
    assert sum(slowed["plans"][0]["time_by_term_s"].values()) == pytest.approx(after)
    shown = run("simulate", *JOB, *SLOW, "--timeline").out
    assert "stage=3:1.2, replica=1:1.1: " in shown
    assert "replica 1 stage 3" in shown


def test_durations_of_ones_own(run: Run) -> None:
    Path("mine.csv").write_text("stage,phase,microbatch,seconds\n1,forward,,0.5\n1,backward,,0\n")
    found = json.loads(run("simulate", *JOB, "--durations", "mine.csv", "--json").out)
    assert found["course"]["durations"] == "mine.csv"
    assert found["plans"][0]["step_time_s"] > 8 * 0.5


def test_all_that_is_wrong_at_once(run: Run) -> None:
    Path("mine.csv").write_text("stage,phase,seconds\n4,forward,1\n0,W,1\n")
    outcome = run("simulate", *JOB, "--slow", "stage=4:2", "--slow", "replica=2:2", "--durations", "mine.csv")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.errors == [
        "--slow = 'stage=4:2': stage 4: there are stages 0 to 3",
        "--slow = 'replica=2:2': replica 2: there are replicas 0 to 1",
        "mine.csv: line 2: names no pass of this step",
        "mine.csv: line 3: names no pass of this step",
    ]
    outcome = run("simulate", *JOB, "--slow", "stage:2", "--durations", "none.csv", "--schedule", "gpip")
    assert len(outcome.errors) == 3


def test_a_trace_of_it(run: Run) -> None:
    run("plan", *JOB[:6], "--top", "1", "--out", "plan.json")
    assert run("trace", "plan.json", "--slow", "replica=0:1.5").code == 0
    events = json.loads(Path("step.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names[0] == "replica 0 stage 0"
    assert names[-1].startswith("replica 1")


def test_an_answer_read_back_says_what_it_leaves_out(run: Run) -> None:
    answer = run("simulate", *JOB, *SLOW, "--json").out
    Path("slow.json").write_text(answer)
    again = run("simulate", "slow.json", "--json")
    assert "--slow" in again.err
    assert json.loads(again.out)["plans"][0]["step_time_s"] == json.loads(answer)["course"]["planned_step_time_s"]
    assert run("simulate", "slow.json", *SLOW, "--json").out == answer


def test_hints_of_several_broken_rules_agree(run: Run) -> None:
    """Each keeps all of them; and stacks that have the schedule are named."""
    layout = (*JOB, "--schedule", "zb-v")
    here = [line for line in run("simulate", *layout, "--stack", "torchtitan").err.splitlines() if "hint" in line]
    assert here == ["  hint: try --vpp 2; or --schedule 1f1b"] * 2
    elsewhere = run("simulate", *layout, "--vpp", "2")
    assert "or --stack torch-plain, torch-plain-gloo, torchtitan, zero-bubble" in elsewhere.err
    assert run("simulate", *layout, "--vpp", "2", "--stack", "torchtitan").code == 0
