"""A sweep: one question asked at many points, over the processors of this machine or a Dask cluster."""

import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.job import Job
from simtrain.study.journal import Journal, key, program

KEEP_MEMORY: Final = {"MALLOC_TRIM_THRESHOLD_": "536870912", "MALLOC_MMAP_THRESHOLD_": "536870912"}
"""Of glibc: arrays that are freed stay with the process, which saves a sixth of the time (0.60 to 0.51 s a point)."""
Row = dict[str, Any]
Ask = Callable[[Job], Row]
"""What is asked at a point: a function that other processes can import, from a job to plain data."""
Progress = Callable[[int, int], None]
Asked = Generator[tuple[Job, Row], None, None]


def swept(
    jobs: Sequence[Job],
    ask: Ask,
    journal: Path | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
    processes: int | None = None,
) -> list[Row]:
    """The row of every job, in their order.

    `journal`: keep rows in this file, and ask only for what it lacks. `scheduler`: run on this Dask cluster, an address
    like tcp://host:8786 or a scheduler file; else in so many `processes`, as many as there are processors if None.
    Points with the same job are asked once. WrongInput where workers have another version of simtrain, or Dask is not
    there.
    """
    with ExitStack() as stack:
        kept = None if journal is None else stack.enter_context(closing(Journal(journal)))
        rows = {} if kept is None else kept.rows
        keys = [key(job) for job in jobs]
        wanted = {name: job for name, job in zip(keys, jobs, strict=True) if name not in rows}
        everything = len(set(keys))
        known = everything - len(wanted)
        if progress is not None:
            progress(known, everything)
        for done, (job, row) in enumerate(
            stack.enter_context(_asked(list(wanted.values()), ask, scheduler, processes)), known + 1
        ):
            if kept is None:
                rows[key(job)] = row
            else:
                kept.add(job, row)
            if progress is not None:
                progress(done, everything)
        return [rows[name] for name in keys]


def _asked(jobs: list[Job], ask: Ask, scheduler: str | None, processes: int | None) -> AbstractContextManager[Asked]:
    """Rows as they come."""
    if scheduler is not None and jobs:
        return closing(_on_dask(jobs, ask, scheduler))
    return closing(_here(jobs, ask, min(len(jobs), processes or os.cpu_count() or 1)))


def _here(jobs: list[Job], ask: Ask, processes: int) -> Asked:
    if processes <= 1:
        yield from ((job, _answered(ask, program(), job.model_dump_json())) for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        with _environment(KEEP_MEMORY):
            waiting = {pool.submit(_answered, ask, program(), job.model_dump_json()): job for job in jobs}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            rule, hint = "a process was ended from outside", "is there enough memory? the same command goes on"
            raise WrongInput([Problem("sweep", None, rule, hint)]) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Variables that processes started meanwhile begin with."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in settings.items() if name not in before})
    try:
        yield
    finally:
        for name in settings.keys() - before.keys():
            del os.environ[name]


def _answered(ask: Ask, asking: str, job: str) -> Row:
    """Ask about a job that travels as JSON: its types are made when they are first used, and cannot be pickled.

    `asking`: the program that will keep the answer.
    """
    if program() != asking:
        rule, hint = "has another version of simtrain than this machine", "install the same on both"
        raise WrongInput([Problem("a worker", socket.gethostname(), rule, hint)])
    return ask(Job.model_validate_json(job))


def _end_with_parent() -> None:
    """A process whose parent is killed ends too, rather than wait for work for ever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def missing_dask(scheduler: str) -> list[Problem]:
    """What is missing to run on a Dask cluster."""
    if find_spec("distributed") is not None:
        return []
    hint = "install it with: pip install 'simtrain[cluster]'"
    return [Problem("--scheduler", scheduler, "needs Dask, which is not installed", hint)]


def _on_dask(jobs: list[Job], ask: Ask, scheduler: str) -> Asked:
    if missing := missing_dask(scheduler):
        raise WrongInput(missing)
    from distributed import Client
    from distributed import as_completed as as_they_come

    where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    try:
        client = Client(**where, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        hint = "start one with: dask scheduler; dask worker ADDRESS"
        raise WrongInput([Problem("--scheduler", scheduler, f"cannot be reached: {error}", hint)]) from None
    with client:
        asked = client.map(partial(_answered, ask, program()), [job.model_dump_json() for job in jobs], pure=False)
        waiting = dict(zip(asked, jobs, strict=True))
        for done, row in as_they_come(waiting, loop=client.loop, with_results=True):  # type: ignore[no-untyped-call]
            yield waiting[done], row
