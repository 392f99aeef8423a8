"""This machine measured once, and a small model to train on it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simtrain.search.layout import Layout
from simtrain.spec.job import Job
from simtrain.spec.plan import Plan
from simtrain.spec.request import Request
from simtrain.validation import launch, own_profile, runs

MODEL = """layers = 2
hidden = 256
heads = 4
kv_heads = 4
head_dim = 64
ffn = 768
gated = true
vocabulary = 1024
"""
PLAIN = dict.fromkeys(("tp", "pp", "vpp", "cp", "ulysses", "ep", "etp", "micro_batch"), "1")
STEPS = 3


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by `measure --quick` on two ranks of this machine."""
    folder = tmp_path_factory.mktemp("profile")
    arguments = ["--device", "cpu", "--quick", "--out", str(folder)]
    ended = launch.run(launch.torchrun("measure", 2, arguments), 240.0, lambda line: None)
    assert ended.code == 0, ended.said
    own_profile.write(folder, "simtrain measure --device cpu --quick")
    return folder


Planned = Callable[..., tuple[Job, Plan, Path]]
Trained = Callable[..., tuple[str, str, list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def planned(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """Job, plan and plan file of a layout of the small model on this machine."""
    folder = tmp_path_factory.mktemp("plans")
    (folder / "tiny.toml").write_text(MODEL)

    def plan(gpus: int = 2, model: str = "", **layout: Any) -> tuple[Job, Plan, Path]:
        shape = folder / "tiny.toml"
        if model:
            shape = folder / "other.toml"
            shape.write_text(MODEL + model)
        stated: dict[str, Any] = PLAIN | {"sp": False, "zero": "0", "shard_group": None, "schedule": None}
        stated |= {"recompute": "none", "full_layers": "0", "offload": "none"} | layout
        job = Request(
            model=str(shape), cluster=str(profile / "cluster.toml"), gpus=str(gpus), seq="128", global_batch="4",
            precision="fp32", stack="torch-plain-gloo",
        ).job()  # fmt: skip
        found = Layout(**stated).plan(job)
        path = folder / f"plan{len(list(folder.iterdir()))}.json"
        plans = [{"plan": found.model_dump(mode="json")}]
        path.write_text(json.dumps({"format_version": 1, "job": job.model_dump(mode="json"), "plans": plans}))
        return job, found, path

    return plan


@pytest.fixture(scope="session")
def trained() -> Trained:
    """Status, why and parts of a plan file's run."""

    def train(path: Path, ranks: int, stage: int | None = None) -> tuple[str, str, list[dict[str, Any]]]:
        wanted = runs.Wanted(
            plan=path, rank=1, ranks=ranks, device="cpu", backend="gloo", steps=STEPS, stage=stage, trace=None, limit=120.0
        )
        return runs.carried_out(wanted, lambda line: None)

    return train


@pytest.fixture(scope="session")
def single(planned: Planned, trained: Trained) -> list[float]:
    """Losses of one process, which every layout must repeat."""
    _, _, path = planned(gpus=1)
    status, why, parts = trained(path, 1)
    assert status == "ok", why
    return list(parts[0]["losses"])


def alive(mark: str) -> list[int]:
    """Processes whose command line holds `mark`."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdecimal() and mark in Path("/proc", entry, "cmdline").read_text():
                found.append(int(entry))
        except OSError:
            continue
    return found
