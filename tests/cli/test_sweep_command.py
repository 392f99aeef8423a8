"""`simtrain sweep`: a table, a CSV, a page; killed and gone on with; wrong input."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_files import write
from conftest import CODE, ROOT, Run

SMALL = ("sweep", "llama-3-8b", "dgx-h100", "--global-batch", "64")
VARIED = ("--vary", "gpus=8..16", "--vary", "seq=2k,4k")


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_table_and_json_hold_the_best_plan_of_every_point(run: Run) -> None:
    table = run(*SMALL, *VARIED)
    document = json.loads(run(*SMALL, *VARIED, "--json").out)
    assert [(row["gpus"], row["seq"]) for row in document["points"]] == [
        ("8", "2k"), ("8", "4k"), ("16", "2k"), ("16", "4k"),
    ]  # fmt: skip
    best = json.loads(run("plan", *SMALL[1:], "--gpus", "16", "--seq", "4k", "--json").out)["plans"][0]
    last = document["points"][-1]
    assert last["step_time_s"] == best["step_time_s"]
    assert {name: last[f"plan_{name}"] for name in best["plan"]} == best["plan"]
    assert last["layout"] in table.out


def test_the_model_may_be_left_out_where_it_is_varied(run: Run) -> None:
    asked = ("sweep", "dgx-h100", "--vary", "model=llama-3-8b", "--gpus", "8", "--global-batch", "64", "--json")
    (point,) = json.loads(run(*asked).out)["points"]
    assert (point["model"], point["devices"]) == ("llama-3-8b", 8)


def test_csv_holds_what_json_does(run: Run, tmp_path: Path) -> None:
    document = json.loads(run(*SMALL, *VARIED, "-o", "sweep.csv", "--json").out)
    found = rows(tmp_path / "sweep.csv")
    assert [float(row["step_time_s"]) for row in found] == [row["step_time_s"] for row in document["points"]]
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.csv"]


def test_nothing_fits_at_a_point_and_nowhere(run: Run) -> None:
    some = run("sweep", "llama-3-8b", "dgx-h100", "--global-batch", "8", "--vary", "gpus=1,8")
    assert some.code == 0
    assert "nothing fits" in some.out
    none = run("sweep", "llama-3-70b", "dgx-h100", "--global-batch", "8", "--vary", "gpus=1,2")
    assert none.code == 1


def test_killed_and_gone_on_with(run: Run, tmp_path: Path) -> None:
    """Killed without warning, the same command loses no point and asks for none twice."""
    command = [*SMALL, "--vary", "gpus=8..64", "--vary", "seq=1k,2k,4k,8k", "-o", "sweep.csv"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    journal = tmp_path / "sweep.csv.journal"
    process = subprocess.Popen([sys.executable, "-c", CODE, *command], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_bytes()
    kept = before[: before.rfind(b"\n") + 1]
    assert 3 <= kept.count(b"\n") < 16
    done = run(*command)
    assert done.code == 0
    assert "going on with" in done.err
    assert not journal.exists()
    again = tmp_path / "whole.csv"
    run(*command[:-1], again)
    assert rows(tmp_path / "sweep.csv") == rows(again)


def test_page_is_whole(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    assert run(*SMALL, *VARIED, "-o", "sweep.html").code == 0
    text = (tmp_path / "sweep.html").read_text()
    assert all(f'id="{name}"' in text for name in ("speed", "cost", "points", "speed-figure", "cost-figure"))


def test_all_that_is_wrong_is_said(run: Run) -> None:
    outcome = run("sweep", "llama-3-8", "dgx-h100", "--vary", "gpu=8", "--vary", "seq=8k..4k", "-o", "sweep.txt")
    assert outcome.code == 2
    said = " ".join(outcome.errors)
    for part in ("'gpu' is not known", "runs backwards", "neither .csv nor .html", "llama-3-8"):
        assert part in said
    assert "--vary: is missing" in " ".join(run(*SMALL).errors)


def test_a_foreign_journal_is_left_alone(run: Run, tmp_path: Path) -> None:
    notes = write(tmp_path / "sweep.csv.journal", "my notes\n")
    outcome = run(*SMALL, *VARIED, "-o", "sweep.csv")
    assert outcome.code == 2
    assert "is not a journal" in outcome.err
    assert notes.read_text() == "my notes\n"


def test_without_dask_the_hint_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simtrain.study.sweep.find_spec", lambda name: None)
    outcome = run(*SMALL, *VARIED, "--scheduler", "tcp://host:8786")
    assert outcome.code == 2
    assert "--scheduler = 'tcp://host:8786': needs Dask, which is not installed" in outcome.err
    assert "simtrain[cluster]" in outcome.err


def test_a_scheduler_that_is_not_there(run: Run) -> None:
    pytest.importorskip("distributed")
    outcome = run(*SMALL, *VARIED, "--scheduler", "nowhere")
    assert outcome.code == 2
    assert "cannot be reached" in outcome.err


def test_a_page_of_clusters_with_and_without_a_price(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    write(tmp_path / "mine.toml", 'node = "dgx-h100"\nnodes = 1\n[fabric]\nkind = "fat tree"\nlatency = "3 us"\n'
          "oversubscription = 1\n")  # fmt: skip
    varied = ("--vary", "cluster=mine.toml,dgx-h100", "--gpus", "8", "--global-batch", "64", "--tokens", "1T")
    assert run("sweep", "llama-3-8b", *varied, "-o", "sweep.html").code == 0
    assert "mine.toml" in (tmp_path / "sweep.html").read_text()
