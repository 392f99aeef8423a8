"""The worker on a Slurm cluster, through submitit: one task a GPU, each its own rank."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.validation import launch, runs

POLL: Final = 10.0
PORT: Final = 29500
"""First port ranks meet on; a job's number is added, so that two jobs on a node do not clash."""


class Task:
    """One rank: what submitit pickles and runs on a node; it needs no simtrain there beside this file's package."""

    def __init__(self, module: str, arguments: list[str], environment: dict[str, str]):
        self.module, self.arguments, self.environment = module, arguments, environment

    def __call__(self) -> int:
        """Run the worker as the rank Slurm says."""
        import subprocess
        import sys

        import submitit

        here = submitit.JobEnvironment()
        port = PORT + int(here.job_id.split("_")[0]) % 10000
        rank = {
            "MASTER_ADDR": here.hostnames[0],
            "MASTER_PORT": str(port),
            "RANK": str(here.global_rank),
            "WORLD_SIZE": str(here.num_tasks),
            "LOCAL_RANK": str(here.local_rank),
            "LOCAL_WORLD_SIZE": str(here.num_tasks // here.num_nodes),
        }
        command = [sys.executable, "-m", self.module, *self.arguments]
        return subprocess.run(command, env=os.environ | self.environment | rank, check=False).returncode


def parameters(options: str, ranks: int, node_ranks: int, minutes: int) -> dict[str, Any]:
    """submitit's parameters: shape of the job, and the user's `partition=a,account=b`."""
    found: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        name, mark, value = part.partition("=")
        if not mark:
            rule = "must be a list of name=value"
            raise WrongInput([Problem("--slurm", part, rule, "write it like partition=gpu,account=me")])
        found[f"slurm_{name}"] = value
    nodes = -(-ranks // node_ranks)
    shape = {"nodes": nodes, "tasks_per_node": ranks // nodes, "gpus_per_node": ranks // nodes, "timeout_min": minutes}
    return shape | found


def submit(
    wanted: runs.Wanted, asked: dict[str, Any], folder: Path, heard: Callable[[str], None]
) -> tuple[str, str, list[dict[str, Any]]]:
    """Submit, wait, gather; a job that is interrupted here is cancelled."""
    try:
        import submitit
    except ImportError:
        raise WrongInput([Problem("--slurm", None, "needs submitit", "pip install submitit")]) from None
    out = folder / "record.json"
    executor = submitit.AutoExecutor(folder=str(folder / "log"))
    executor.update_parameters(**asked)
    job = executor.submit(Task("run", runs.arguments(wanted, out), launch.environment()))
    try:
        while not job.done():
            heard(f"Slurm job {job.job_id}: {job.state}")
            time.sleep(POLL)
    except BaseException:
        job.cancel()
        raise
    code = 0 if all(result == 0 for result in job.results()) else 1
    return runs.judged(launch.Ended(code, tuple((job.stderr() or "").splitlines()[-launch.TAIL :])), runs.parts(out))
