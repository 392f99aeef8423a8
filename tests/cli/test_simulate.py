"""`simtrain simulate`: a plan file read back, a layout given by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_files import write
from conftest import Outcome, Run

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "8", "--global-batch", "64")
NEIGHBOURLY = {"rank", "tie", "reason"}
"""What depends on the other plans of the answer."""


@pytest.fixture
def answer(run: Run) -> dict:
    outcome = run("plan", *JOB, "--tokens", "15T", "--top", "3", "--out", "plan.json", "--json")
    return json.loads(outcome.out)


def test_simulate(run: Run, snapshot: Callable[[str], None]) -> None:
    outcome = run("simulate", *JOB, "--tp", "2", "--sp", "--pp", "2", "--zero", "1", "--recompute", "selective")
    assert (outcome.code, outcome.err) == (0, "")
    snapshot(outcome.out)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_plan_file_gives_the_same_numbers(run: Run, answer: dict, rank: int) -> None:
    again = json.loads(run("simulate", "plan.json", "--rank", rank, "--json").out)
    assert again["format_version"] == answer["format_version"]
    assert again["job"] == answer["job"]
    before, after = answer["plans"][rank - 1], again["plans"][0]
    assert set(before) == set(after)
    for key in set(before) - NEIGHBOURLY:
        assert after[key] == before[key], key


def test_a_plan_file_as_tables(run: Run, answer: dict) -> None:
    outcome = run("simulate", "plan.json")
    assert outcome.code == 0
    assert "Where a step's time goes" in outcome.out
    assert "llama-3-8b (8.03 B parameters) on 8 x NVIDIA H100" in outcome.out


def test_the_layout_by_hand_is_the_layout_of_the_file(run: Run, answer: dict) -> None:
    plan = answer["plans"][0]["plan"]
    flags = {"tp": "tp", "pp": "pp", "vpp": "vpp", "cp": "cp_ring", "ulysses": "cp_head", "zero": "zero"}
    flags |= {"schedule": "schedule", "micro-batch": "micro_batch", "recompute": "recompute"}
    flags |= {"full-layers": "full_layers"} | ({"shard-group": "shard_group"} if plan["zero"] else {})
    given = [part for flag, key in flags.items() for part in (f"--{flag}", plan[key])] + ["--sp"] * plan["sp"]
    by_hand = json.loads(run("simulate", *JOB, "--tokens", "15T", *given, "--json").out)["plans"][0]
    assert by_hand["plan"] == plan
    assert by_hand["step_time_s"] == answer["plans"][0]["step_time_s"]


def test_a_job_file_will_do(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "job.toml", 'model = "llama-3-8b"\ncluster = "dgx-h100"\ngpus = 8\nglobal_batch = 64\n')
    by_file = json.loads(run("simulate", "job.toml", "--zero", "3", "--json").out)
    by_flags = json.loads(run("simulate", *JOB, "--zero", "3", "--json").out)
    assert by_file == by_flags


def test_a_plan_that_does_not_fit_is_a_no(run: Run) -> None:
    asked = ("simulate", "llama-3-70b", "dgx-h100", "--gpus", "8")
    outcome = run(*asked)
    assert outcome.code == 1
    assert "does NOT fit" in outcome.out
    assert "GiB too much" in outcome.out
    answer = run(*asked, "--json")
    assert answer.code == 1
    plan = json.loads(answer.out)["plans"][0]
    assert plan["fits"] is False
    assert plan["memory_margin_bytes"] < 0


def broken(run: Run, answer: dict, change: Callable[[dict], object]) -> Outcome:
    change(answer)
    Path("changed.json").write_text(json.dumps(answer))
    outcome = run("simulate", "changed.json")
    assert outcome.code == 2
    assert outcome.out == ""
    return outcome


def test_a_plan_file_of_another_version(run: Run, answer: dict) -> None:
    outcome = broken(run, answer, lambda document: document.update(format_version=99))
    assert "format_version = 99: this simtrain reads version 1" in outcome.err


def test_a_plan_file_with_a_wrong_plan(run: Run, answer: dict) -> None:
    outcome = broken(run, answer, lambda document: document["plans"][0]["plan"].update(tp=3))
    assert "the mesh uses every device" in outcome.err
    assert "tensor degree divides heads" in outcome.err


def test_a_plan_file_with_wrong_fields_names_them_all(run: Run, answer: dict) -> None:
    def change(document: dict) -> None:
        document["plans"][0]["plan"].update(tp=-1, schedule="zigzag", tpp=2)
        document["job"]["sequence"] = "long"

    outcome = broken(run, answer, change)
    assert len(outcome.errors) == 4
    assert all(word in outcome.err for word in ("plan.tp = -1", "'zigzag'", "plan.tpp", "'long'"))


def test_a_plan_file_with_an_endless_number(run: Run, answer: dict) -> None:
    outcome = broken(run, answer, lambda document: document["plans"][0]["plan"].update(vpp=10**30))
    assert "64 bits" in outcome.err


def test_a_plan_file_without_plans(run: Run, answer: dict) -> None:
    assert "nothing fitted" in broken(run, answer, lambda document: document.update(plans=[])).err


@pytest.mark.parametrize("text", ["[]", "{}", '"plan"', '{"job": {}, "plans": 3}'])
def test_not_a_plan_file(run: Run, tmp_path: Path, text: str) -> None:
    outcome = run("simulate", write(tmp_path / "other.json", text))
    assert outcome.code == 2
    assert "is not a plan file" in outcome.err
    assert "simtrain plan ... --out" in outcome.err


def test_broken_json_names_the_line(run: Run, tmp_path: Path) -> None:
    outcome = run("simulate", write(tmp_path / "plan.json", '{"format_version": 1,\n "job": }\n'))
    assert outcome.code == 2
    assert "is not valid JSON" in outcome.err
    assert "line 2" in outcome.err


def test_a_plan_file_that_is_not_there(run: Run) -> None:
    outcome = run("simulate", "plan.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.errors == ["plan.json: cannot be read: No such file or directory"]


@pytest.mark.parametrize("rank", ["0", "4", "-1", "x"])
def test_a_rank_the_file_does_not_have(run: Run, answer: dict, rank: str) -> None:
    outcome = run("simulate", "plan.json", "--rank", rank)
    assert outcome.code == 2
    assert outcome.errors == [f"--rank = '{rank}': the file holds plans 1 to 3"]


def test_options_that_a_plan_file_fixes(run: Run, answer: dict) -> None:
    outcome = run("simulate", "plan.json", "--tp", "2", "--gpus", "16")
    assert outcome.code == 2
    assert len(outcome.errors) == 2
    assert outcome.out == ""
    assert run("simulate", *JOB, "--rank", "2").errors == ["--rank = '2': is for plan files"]


LAYOUTS = {
    "tp does not divide the devices": (("--tp", "3"), "takes 3 devices", "--tp 2 or 4"),
    "tp does not divide the heads": (("--gpus", "64", "--tp", "64"), "'tensor degree divides heads'", "--tp 32"),
    "dp does not divide the batch": (("--global-batch", "100"), "'the batch divides'", "--global-batch 96 or 104"),
    "micro batch": (("--micro-batch", "3"), "'the batch divides'", "--micro-batch 2 or 4"),
    "more stages than layers": (("--gpus", "64", "--pp", "64"), "'every stage holds a layer'", "--pp 32"),
    "sp without tp": (("--sp",), "'sequence parallelism needs tensor ranks'", "leaving out --sp"),
    "experts of a dense model": (("--ep", "2"), "'expert degree needs experts'", "--ep 1"),
    "chunks in 1f1b": (("--pp", "2", "--vpp", "2", "--schedule", "1f1b"), "chunks belong", "--schedule interleaved"),
    "zero bubble elsewhere": (("--pp", "2", "--schedule", "zb-1p"), "'the stack has this schedule'", "--schedule"),
    "shard group": (("--zero", "1", "--shard-group", "3"), "'the shard group divides", "--shard-group 2 or 4"),
    "several batches": (("--global-batch", "64,128"), "is several sizes", "name one of them"),
}


@pytest.mark.parametrize(("flags", "rule", "fix"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_layout_that_breaks_a_rule(run: Run, flags: tuple[str, ...], rule: str, fix: str) -> None:
    outcome = run("simulate", *JOB, *flags)
    assert (outcome.code, outcome.out) == (2, "")
    assert rule in outcome.err
    assert fix in outcome.err


def test_the_fix_that_is_named_works(run: Run) -> None:
    assert run("simulate", *JOB, "--global-batch", "104", "--zero", "1").code == 0
    assert run("simulate", *JOB, "--tp", "4").code == 0


def test_all_that_is_wrong_with_a_layout_at_once(run: Run) -> None:
    flags = ("--tp", "x", "--pp", "0", "--vpp", "1e9", "--zero", "7", "--schedule", "zigzag", "--recompute", "some")
    outcome = run("simulate", "lama", "dgx-h100", *flags, "--seq", "nan", "--cp", "99999999999999999999")
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.errors) == 9


def test_every_broken_rule_of_a_layout_at_once(run: Run) -> None:
    outcome = run("simulate", *JOB, "--tp", "3", "--sp", "--cp", "3", "--pp", "40")
    assert len(outcome.errors) >= 4
    assert "takes 360 devices" in outcome.err
    huge = ("1048576",)
    assert run("simulate", *JOB, "--tp", *huge, "--pp", *huge, "--cp", *huge, "--ulysses", *huge).code == 2
