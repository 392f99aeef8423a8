"""Points are asked once, whoever asks, and what was found is kept."""

import json
import os
import re
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from jobs import job

from simtrain.cli.sweep import HELP
from simtrain.errors import WrongInput
from simtrain.spec.job import Job
from simtrain.study.journal import Journal, forget, key
from simtrain.study.sweep import swept
from simtrain.views.point import best_row

JOBS = [job(gpus=gpus) for gpus in (8, 16, 32, 64, 16)]


def asked(job: Job) -> dict[str, Any]:
    """A question that is quick to answer; it notes in a file that it was asked."""
    with Path(os.environ["ASKED"]).open("a") as file:
        file.write(f"{job.devices}\n")
    if job.devices == int(os.environ.get("FAILS", "0")):
        raise RuntimeError("killed")
    return {"devices": job.devices, "third": job.devices / 3}


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "asked"
    monkeypatch.setenv("ASKED", str(path))
    return path


def test_points_of_another_sweep_stay_in_the_journal(count: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    swept(JOBS, asked, journal, processes=1)
    assert forget(journal, JOBS[:1]) == 3
    assert swept(JOBS[1:], asked, journal, processes=1)[0]["devices"] == 16
    assert count.read_text().split() == ["8", "16", "32", "64"]
    assert forget(journal, JOBS[1:]) == 0
    assert not journal.exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_in_the_order_of_the_jobs(count: Path, processes: int) -> None:
    rows = swept(JOBS, asked, processes=processes)
    assert [row["devices"] for row in rows] == [8, 16, 32, 64, 16]
    assert sorted(count.read_text().split()) == ["16", "32", "64", "8"]


def test_goes_on_where_it_stopped(count: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal"
    monkeypatch.setenv("FAILS", "32")
    with pytest.raises(RuntimeError):
        swept(JOBS, asked, journal, processes=1)
    journal.write_bytes(journal.read_bytes() + b'{"format_version": 1, "key": "half a li')
    monkeypatch.delenv("FAILS")
    seen: list[tuple[int, int]] = []
    rows = swept(JOBS, asked, journal, processes=1, progress=lambda done, everything: seen.append((done, everything)))
    assert rows == swept(JOBS, asked, processes=1)
    assert count.read_text().split()[:5] == ["8", "16", "32", "32", "64"]
    assert seen == [(2, 4), (3, 4), (4, 4)]
    assert [json.loads(line)["key"] for line in journal.read_text().splitlines()] == [key(job) for job in JOBS[:4]]


def test_what_another_version_found_is_asked_again(
    count: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    with monkeypatch.context() as before:
        before.setattr("simtrain.study.journal.program", lambda: "before")
        swept(JOBS[:2], asked, path, processes=1)
    path.write_text(path.read_text() + '{"format_version": 1, "key": "' + key(JOBS[2]) + '", "row": {"devices": 0}}\n')
    swept(JOBS[:1], asked, path, processes=1)
    kept = Journal(path)
    kept.close()
    assert (list(kept.rows), kept.stale) == ([key(JOBS[0])], 3)
    assert count.read_text().split() == ["8", "16", "8"]


def test_workers_of_another_version_are_refused(count: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simtrain.study.sweep.program", lambda: "newer")
    with pytest.raises(WrongInput, match="another version of simtrain"):
        swept(JOBS, asked, processes=2)


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("not mine\n")
    with pytest.raises(WrongInput, match="is not a journal"):
        Journal(path)
    assert path.read_text() == "not mine\n"


def test_a_dask_cluster_gives_the_same_rows(count: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        rows = swept(JOBS, asked, tmp_path / "journal", scheduler=address)
        plans = swept(JOBS[:3], best_row, scheduler=address)
    assert rows == swept(JOBS, asked, processes=1)
    assert plans == swept(JOBS[:3], best_row, processes=1)


SBATCH = """#!/bin/sh
cp "$1" {folder}/job.sh
setsid sh {folder}/job.sh >{folder}/job.log 2>&1 &
echo $! >{folder}/pid
echo "Submitted batch job 7"
"""
SCANCEL = """#!/bin/sh
kill -- -$(cat {folder}/pid)
"""


def test_the_documented_start_under_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the help says starts a cluster whose job asks Slurm for what was stated; its worker gives the same rows.

    There is no Slurm here: sbatch runs the script beside, scancel ends it.
    """
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        command = tmp_path / name
        command.write_text(text.format(folder=tmp_path))
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    start = HELP[HELP.index("  from dask_jobqueue") : HELP.index("  print(cluster.")]
    session: dict[str, Any] = {}
    exec(dedent(start), session)
    with session["cluster"] as cluster:
        rows = swept(JOBS[:2], best_row, scheduler=cluster.scheduler_address)
    directives = re.findall("^#SBATCH (.*)", (tmp_path / "job.sh").read_text(), re.MULTILINE)
    assert {"--cpus-per-task=4", "--mem=8G", "-t 01:00:00"} <= set(directives)
    assert rows == swept(JOBS[:2], best_row, processes=1)


def test_a_scheduler_that_is_not_there(count: Path) -> None:
    pytest.importorskip("distributed")
    with pytest.raises(WrongInput, match="cannot be reached"):
        swept(JOBS, asked, scheduler="nowhere")


def ends(job: Job) -> dict[str, Any]:
    """A process that the system ends."""
    os._exit(9)


def test_a_process_that_is_ended_is_no_traceback() -> None:
    with pytest.raises(WrongInput, match="ended from outside"):
        swept(JOBS, ends, processes=2)
