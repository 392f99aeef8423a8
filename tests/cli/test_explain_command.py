"""`simtrain explain` from outside."""

import json

import pytest
from conftest import Run

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "16", "--seq", "8192", "--global-batch", "64")


@pytest.fixture
def plan(run: Run) -> str:
    assert run("plan", *JOB, "--out", "plan.json").code == 0
    return "plan.json"


def test_says_what_binds_and_why_not(run: Run, plan: str) -> None:
    outcome = run("explain", plan, "--why-not", "tp=8,pp=2")
    assert outcome.code == 0
    for part in ("Binds: ", "Worth a step", "1 GiB more memory", "rests on", "Why not tp 8, pp 2: ", "slower"):
        assert part in outcome.out


def test_illegal_alternative_names_rules(run: Run, plan: str) -> None:
    outcome = run("explain", plan, "--why-not", "tp=3")
    assert outcome.code == 0
    assert "it is illegal" in outcome.out
    assert "tensor degree divides heads" in outcome.out


def test_json(run: Run, plan: str) -> None:
    document = json.loads(run("explain", plan, "--why-not", "zero=3", "--json").out)
    assert document["format_version"] == 1
    assert document["why_not"]["plan"]["zero"] == 3
    assert document["worth"][0]["change"] == "1 GiB more memory a device"
    assert document["rests_on"]["runs"] > 0
    assert json.loads(run("explain", plan, "--rank", "2", "--json").out)["why_not"] is None


def test_all_that_is_wrong_at_once(run: Run, plan: str) -> None:
    outcome = run("explain", plan, "--rank", "99", "--why-not", "tq=8,pp,zero=7,zero=9")
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.errors) == 5
    assert "is named twice" in outcome.err
    assert "tp" in outcome.err
