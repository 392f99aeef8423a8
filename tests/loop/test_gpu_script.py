"""`make gpu` with the processor in place of a GPU: what has a result, and what is tried again."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from loop_fixtures import Planned

from simtrain.spec.library import path_of
from simtrain.spec.request import Request


def gpu(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(path_of("validate") / "gpu"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_nothing_is_recorded(tmp_path: Path) -> None:
    done = gpu("--out", str(tmp_path))
    assert done.returncode == 1
    assert "torch sees no CUDA device here" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_large_plans_are_made_for_ones_own_device(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what their slices take tells the rates of that device."""
    monkeypatch.syspath_prepend(str(path_of("validate") / "gpu"))
    path = importlib.import_module("write_plans").large(profile / "cluster.toml", tmp_path)
    job = Request(
        model="llama-3-70b", cluster=str(path), gpus="512", seq="8192", global_batch="64",
        precision="fp32", stack="torch-plain-gloo",
    ).job()  # fmt: skip
    assert job.cluster.device.profile == str(profile.resolve())
    assert job.devices == 512
    sys.modules.pop("write_plans")


def test_what_fell_or_was_cut_is_tried_again(planned: Planned, tmp_path: Path) -> None:
    plans, out = tmp_path / "plans", tmp_path / "out"
    for folder in (plans, out / "profile"):
        folder.mkdir(parents=True)
    (out / "profile" / "machine.json").write_text("{}")
    one, two = planned(gpus=1)[2], planned()[2]
    (plans / "one.json").write_bytes(one.read_bytes())
    (plans / "two.json").write_bytes(two.read_bytes())
    big = json.loads(one.read_text())
    big["job"]["model"]["vocabulary"] = 10**13
    (plans / "big.json").write_text(json.dumps(big))
    stated = ("--device", "cpu", "--plans", str(plans), "--out", str(out), "--steps", "2")
    cut = gpu(*stated, "--minutes", "0.002")
    assert cut.returncode == 1
    assert "no result yet: big, one, two" in cut.stderr
    assert list((out / "runs").glob("*.json")) == []
    fell = gpu(*stated)
    assert fell.returncode == 1
    assert "no result yet: two" in fell.stderr
    (record,) = json.loads((out / "runs" / "one.json").read_text())["ranks"]
    assert (record["status"], len(record["step_times_s"])) == ("ok", 2)
    (late,) = json.loads((out / "runs" / "big.json").read_text())["ranks"]
    assert late["status"] == "out of memory", "the run went on to the next plan"
    assert "tried to allocate" in late["why"]
    (plans / "two.json").unlink()
    ended = gpu(*stated)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1] == "nothing is left to do"
