"""This machine measured once, and a small model to train on it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simtrain.search.layout import Layout
from simtrain.spec.job import Job
from simtrain.spec.memory_plan import MemoryPlan, StageMemory, Treatment
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
STEPS = 5
EXPERTS = "[experts]\ncount = 4\ntop_k = 2\nffn = 256\n"
TREATED = MemoryPlan(
    stages=(
        StageMemory(
            first=0,
            last=0,
            tensors={
                "normed": Treatment(recompute=1, offload=1),
                "activated": Treatment(recompute=1, offload=1),
                "attention": Treatment(recompute=1),
                "projected": Treatment(offload=1),
            },
        ),
    )
)
CASES: dict[str, dict[str, Any]] = {
    "single": {"gpus": 1},
    "slice": {"tp": "2", "sp": True},
    "four layers, single": {"gpus": 1, "layers": 4},
    "512 positions, single": {"gpus": 1, "seq": "512"},
    "experts, single": {"gpus": 1, "model": EXPERTS},
    "data 2": {},
    "tensor 2, sequence parallel": {"tp": "2", "sp": True},
    "pipeline 2": {"pp": "2"},
    "zero 3, recomputed": {"zero": "3", "recompute": "full"},
    "experts 2": {"model": EXPERTS, "ep": "2"},
    "interleaved": {"layers": 4, "pp": "2", "vpp": "2", "schedule": "interleaved"},
    "breadth-first": {"layers": 4, "pp": "2", "vpp": "2", "schedule": "breadth-first"},
    "zb-v": {"layers": 4, "pp": "2", "vpp": "2", "schedule": "zb-v"},
    "dualpipe-v": {"layers": 4, "pp": "2", "vpp": "2", "schedule": "dualpipe-v"},
    "heads over context ranks": {"seq": "512", "ulysses": "2"},
    "ring": {"seq": "512", "cp": "2"},
    "memory plan": {"gpus": 1, "memory": TREATED},
    "selective": {"gpus": 1, "recompute": "selective"},
    "optimizer on the host": {"gpus": 1, "offload": "optimizer"},
}
TIMED = ("single", "data 2", "tensor 2, sequence parallel", "pipeline 2", "zero 3, recomputed")
"""Cases whose steps are timed; of the others one is enough."""
SLICES = ("slice",)


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
Trained = dict[str, tuple[Job, Plan, list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def planned(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """Job, plan and plan file of a layout of the small model on this machine."""
    folder = tmp_path_factory.mktemp("plans")
    (folder / "tiny.toml").write_text(MODEL)

    def plan(
        gpus: int = 2,
        model: str = "",
        cluster: str = "",
        layers: int = 2,
        seq: str = "128",
        memory: MemoryPlan | None = None,
        **layout: Any,
    ) -> tuple[Job, Plan, Path]:
        shape = folder / "tiny.toml"
        if model or layers != 2:
            shape = folder / "other.toml"
            shape.write_text(MODEL.replace("layers = 2", f"layers = {layers}") + model)
        stated: dict[str, Any] = PLAIN | {"sp": False, "zero": "0", "shard_group": None, "schedule": None}
        stated |= {"recompute": "none", "full_layers": "0", "offload": "none"} | layout
        where = cluster or str(profile / "cluster.toml")
        job = Request(
            model=str(shape), cluster=where, gpus=str(gpus), seq=seq, global_batch="4",
            precision="fp32", stack="torch-plain-gloo",
        ).job()  # fmt: skip
        found = Layout(**stated).plan(job).model_copy(update={"memory": memory})
        path = folder / f"plan{len(list(folder.iterdir()))}.json"
        plans = [{"plan": found.model_dump(mode="json")}]
        path.write_text(json.dumps({"format_version": 1, "job": job.model_dump(mode="json"), "plans": plans}))
        return job, found, path

    return plan


def train(folder: Path, ranks: int, plans: dict[str, str]) -> None:
    """Run plan files by name in one launch; parts go to `folder`."""
    cases = (f"{name}={path}={STEPS if name in TIMED else 1}" for name, path in plans.items())
    arguments = [str(folder), ",".join(SLICES), *cases]
    command = launch.torchrun("many", ranks, arguments)
    extra = {"PYTHONPATH": f"{launch.environment()['PYTHONPATH']}:{Path(__file__).parent}"}
    ended = launch.run(["env", *(f"{k}={v}" for k, v in extra.items()), *command], 600.0, lambda line: None)
    assert ended.code == 0, ended.said


@pytest.fixture(scope="session")
def trained(planned: Planned, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Every case run, those of as many ranks in one launch: starting torch takes longer than training."""
    folder = tmp_path_factory.mktemp("parts")
    cases = {name: (stated, planned(**stated)) for name, stated in CASES.items()}
    for ranks in (1, 2):
        mine = {
            name: str(path)
            for name, (stated, (_, _, path)) in cases.items()
            if (1 if name in SLICES else stated.get("gpus", 2)) == ranks
        }
        train(folder, ranks, mine)
    return {name: (job, plan, runs.parts(folder / f"{name}.json")) for name, (_, (job, plan, _)) in cases.items()}


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
