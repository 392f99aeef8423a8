"""`simtrain trace` and `simtrain simulate --timeline` from outside."""

import gzip
import json
from pathlib import Path

import pytest
from conftest import Run

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "8", "--global-batch", "64")
LAYOUT = ("--pp", "4", "--tp", "2")


@pytest.fixture
def answer(run: Run) -> dict:
    return json.loads(run("plan", *JOB, "--top", "2", "--out", "plan.json", "--json").out)


def process_names(path: str) -> list[str]:
    events = json.loads(Path(path).read_text())["traceEvents"]
    return [event["args"]["name"] for event in events if event["name"] == "process_name"]


@pytest.mark.parametrize("rank", [1, 2])
def test_a_stage_is_a_process(run: Run, answer: dict, rank: int) -> None:
    outcome = run("trace", "plan.json", "-o", "of.json", "--rank", rank)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "wrote of.json; open it in ui.perfetto.dev\n"
    stages = answer["plans"][rank - 1]["plan"]["pp"]
    assert process_names("of.json") == [f"stage {stage}" for stage in range(stages)]


def test_where_it_is_written_without_being_told(run: Run, answer: dict, tmp_path: Path) -> None:
    assert run("trace", "plan.json").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "step.json"]


def test_a_compressed_trace(run: Run, answer: dict) -> None:
    run("trace", "plan.json", "-o", "step.json")
    assert run("trace", "plan.json", "-o", "step.json.gz").code == 0
    assert gzip.decompress(Path("step.json.gz").read_bytes()) == Path("step.json").read_bytes()


def test_all_that_is_wrong_at_once(run: Run, answer: dict, tmp_path: Path) -> None:
    outcome = run("trace", "plan.json", "--rank", "9", "-o", "no/step.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.errors) == 2
    assert "the file holds plans 1 to 2" in outcome.err
    assert "mkdir -p no" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_the_plan_is_not_overwritten(run: Run, answer: dict) -> None:
    before = Path("plan.json").read_text()
    assert "would overwrite what is read" in run("trace", "plan.json", "-o", "plan.json").err
    assert "would overwrite what is read" in run("trace", "plan.json", "-o", Path("plan.json").resolve()).err
    assert Path("plan.json").read_text() == before


def test_a_folder_that_is_no_plan(run: Run, tmp_path: Path) -> None:
    outcome = run("trace", tmp_path)
    assert outcome.code == 2
    assert "cannot be read" in outcome.err


def test_a_timeline_below_the_tables(run: Run) -> None:
    without = run("simulate", *JOB, *LAYOUT)
    outcome = run("simulate", *JOB, *LAYOUT, "--timeline")
    assert outcome.code == without.code != 2
    assert outcome.out.startswith(without.out)
    added = outcome.out.removeprefix(without.out)
    assert added.startswith("Timeline of a step of")
    assert "4 stages, 64 microbatches" in added
    assert max(map(len, added.splitlines())) <= 160


def test_a_timeline_of_a_plan_file(run: Run, answer: dict) -> None:
    outcome = run("simulate", "plan.json", "--timeline")
    assert outcome.code == 0
    assert "Timeline of a step of" in outcome.out
    assert "Peak memory in GiB" in outcome.out


def test_a_timeline_is_not_json(run: Run) -> None:
    outcome = run("simulate", *JOB, *LAYOUT, "--timeline", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "simtrain trace" in outcome.err
