"""The worker on a Slurm cluster, through submitit: one task a GPU, each its own rank."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.validation import launch, runs

PR_SET_PDEATHSIG: Final = 1
"""Of prctl(2): the signal a process is sent when its parent ends."""
POLL: Final = 10.0
PORT: Final = 29500
"""First port ranks meet on; a job's number is added, so that two jobs on a node do not clash."""


class Task:
    """One rank: what submitit pickles and runs on a node; it needs no simtrain there beside this file's package."""

    def __init__(self, module: str, arguments: list[str], environment: dict[str, str]):
        self.module, self.arguments, self.environment = module, arguments, environment

    def __call__(self) -> int:
        """Run the worker as the rank Slurm says; it ends with this process, however that ends (Linux)."""
        import ctypes
        import signal
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
        libc = ctypes.CDLL(None)
        return subprocess.run(
            command,
            env=os.environ | self.environment | rank,
            check=False,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        ).returncode


def parameters(options: str, ranks: int, node_ranks: int, minutes: int, device: str) -> dict[str, Any]:
    """submitit's parameters: shape of the job, and the user's `partition=a,account=b`; `device`: cpu or cuda."""
    found: dict[str, Any] = {}
    for part in filter(None, options.split(",")):
        name, mark, value = part.partition("=")
        if not mark:
            rule = "must be a list of name=value"
            raise WrongInput([Problem("--slurm", part, rule, "write it like partition=gpu,account=me")])
        found[f"slurm_{name}"] = value
    nodes = -(-ranks // node_ranks)
    each = ranks // nodes
    shape = {"nodes": nodes, "tasks_per_node": each, "timeout_min": minutes}
    return shape | ({"gpus_per_node": each} if device == "cuda" else {}) | found


def submit(
    wanted: runs.Wanted,
    asked: dict[str, Any],
    folder: Path,
    heard: Callable[[str], None],
    where: str | None = None,
    poll: float = POLL,
) -> tuple[str, str, list[dict[str, Any]]]:
    """Submit, wait, gather; where this program is interrupted (SIGINT, SIGTERM) the job is cancelled.

    Whatever its ranks recorded is gathered all the same. `where`: submitit's name of a cluster, the one found here if
    None; `poll`: seconds between looks.
    """
    try:
        import submitit
    except ImportError:
        raise WrongInput([Problem("--slurm", None, "needs submitit", "pip install submitit")]) from None
    out = folder / "record.json"
    executor = submitit.AutoExecutor(folder=str(folder / "log"), cluster=where)
    executor.update_parameters(**asked)
    with launch.terminable():
        job = executor.submit(Task("run", runs.arguments(wanted, out), launch.environment()))
        try:
            while not job.done():
                heard(f"Slurm job {job.job_id}: {job.state}")
                time.sleep(poll)
            code = max(job.results())
        except (KeyboardInterrupt, SystemExit):
            job.cancel(check=False)
            return "failed", f"interrupted; job {job.job_id} was cancelled", runs.parts(out)
        except Exception as error:  # submitit's own classes, for a job that the cluster ended
            why = str(error).strip().splitlines() or [type(error).__name__]
            return "failed", f"job {job.job_id}: {why[0]}", runs.parts(out)
    said = tuple((job.stderr() or "").splitlines()[-launch.TAIL :])
    return runs.judged(launch.Ended(int(code != 0), said), runs.parts(out))
