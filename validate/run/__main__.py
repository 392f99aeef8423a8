"""Train one plan and record it: `torchrun --nproc-per-node N -m run plan.json --out record.json`.

Reads a plan file of simtrain; needs torch, and NVML where there is a GPU. Every rank writes a part beside --out, so
that a run that ends early leaves what it found; rank 0 joins them.
"""

import argparse
import gc
import json
import math
import pathlib
import re
import statistics
import sys
import time
import traceback

import torch
import torch.distributed as dist
from machine import Machine, held_off, too_old
from measure.kernels import Operands

WARM_UP = 3
"""Steps before the first timed one; the last of them is watched."""
PROFILED = 2
ENERGY_WINDOW = 3.0
"""Seconds of steps whose energy is read; counters are renewed some ten times a second."""
NO_MEMORY = r"out of memory|ALLOC_FAILED|can't allocate memory"
"""What libraries and torch's allocator of host memory say in errors of no class of their own."""
OUT_OF_MEMORY, FAILED = 17, 18
"""Exit codes a launcher can tell apart."""


def main():
    """Run, and write this rank's record whatever happens."""
    read = argparse.ArgumentParser(prog="run", description=__doc__)
    read.add_argument("plan", type=pathlib.Path)
    read.add_argument("--rank", type=int, default=1, help="which plan of the file; 1 is the best")
    read.add_argument("--out", type=pathlib.Path, required=True)
    read.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    read.add_argument("--backend", choices=("gloo", "nccl"))
    read.add_argument("--steps", type=int, default=20)
    read.add_argument("--slice", type=int, metavar="STAGE", help="one rank of this stage, alone")
    read.add_argument("--trace", type=pathlib.Path, help="write torch.profiler's trace of rank 0 here")
    asked = read.parse_args()
    if too_old():
        sys.exit(too_old())
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here (torch.cuda.is_available() is False)")
    document = json.loads(asked.plan.read_text(encoding="utf-8"))
    job, plan = document["job"], document["plans"][asked.rank - 1]["plan"]
    machine = Machine(asked.device, asked.backend)
    if machine.kind == "cpu":
        machine.share(job["cluster"]["node"]["devices"])
    needed = 1 if asked.slice is not None else job["devices"]
    if machine.world != needed:
        sys.exit(f"the plan is for {needed} ranks, {machine.world} were started")
    record = {
        "status": "started",
        "rank": machine.rank,
        "machine": machine.described(),
        "step_times_s": [],
        "host_times_s": [],
        "held_off_s": [],
        "losses": [],
    }
    part = asked.out.with_suffix(f".rank{machine.rank}.json")

    def keep():
        beside = part.with_suffix(".new")
        beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        beside.replace(part)

    code = 0
    keep()
    try:
        if asked.slice is None:
            machine.join()
        run(job, plan, machine, asked, record, keep)
        record["status"] = "ok"
    except Exception as error:  # the record says what ended the run, whatever it was
        code, record["status"], record["why"] = FAILED, "failed", f"{type(error).__name__}: {error}"
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or re.search(NO_MEMORY, str(error)):
            code, record["status"], record["why"] = OUT_OF_MEMORY, "out of memory", str(error).splitlines()[0]
        traceback.print_exc()
    if machine.kind == "cuda" and "peak_allocated_bytes" not in record.get("memory", {}):
        record["memory"] = record.get("memory", {}) | allocator()
    keep()
    if code:
        sys.exit(code)
    if asked.slice is None:
        machine.together()
        dist.destroy_process_group()
    if machine.rank == 0:
        parts = [json.loads(asked.out.with_suffix(f".rank{rank}.json").read_text()) for rank in range(machine.world)]
        asked.out.write_text(json.dumps({"ranks": parts}, indent=1) + "\n", encoding="utf-8")


def run(job, plan, machine, asked, record, keep):
    """Warm up, watch a step, time the steps, profile two; `keep` writes what the record has, after every step."""
    from run.train import Training  # an older torch has not all it imports

    torch.manual_seed(0)
    reference(machine, record)
    if machine.kind == "cuda":
        torch.cuda.empty_cache()
    training = Training(job, plan, machine, asked.slice is not None, asked.slice or 0)
    record["stage"] = training.mesh.place["pp"]
    say = (lambda text: print(text, file=sys.stderr, flush=True)) if machine.rank == 0 else (lambda text: None)
    for number in range(WARM_UP - 1):
        note(record, training.step(number))
        keep()
        say(f"warm-up step {number + 1} of {WARM_UP}")
    watched(training, machine, record)
    keep()
    say("watched a step")
    if machine.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    gc.collect()
    for number in range(asked.steps):
        machine.together()
        start, busy, held = time.perf_counter(), time.process_time(), held_off()
        loss = training.step(WARM_UP + number)
        machine.wait()
        if machine.kind == "cpu":
            record["held_off_s"].append(held_off() - held)
        record["host_times_s"].append(time.process_time() - busy)
        record["step_times_s"].append(time.perf_counter() - start)
        note(record, loss)
        keep()
        say(f"step {number + 1} of {asked.steps}: {record['step_times_s'][-1]:.4g} s")
    done = WARM_UP + asked.steps
    done += counted(training, machine, record, done)
    if machine.kind == "cuda":
        record["memory"] |= allocator()
    try:
        profiled(training, machine, asked, record, done)
    except RuntimeError as error:  # a profiler that may not trace costs the operators, not the run
        record["operators_why"] = str(error).splitlines()[0]
    try:
        reference(machine, record)
    except torch.OutOfMemoryError:  # the steps are done: what they left may be too little for it
        record["reference"]["why"] = "no memory for it beside the model"


def reference(machine, record):
    """Time one product of a layer's size: whoever compares sees whether the machine is what was measured.

    Before the model is built and after the last step, as it needs memory of its own.
    """
    half, m, n, k = ("fp32", 1024, 256, 256) if machine.kind == "cpu" else ("bf16", 2048, 2048, 2048)
    pairs = Operands(machine, half, (m + n) * k).pairs((m, k), (n, k))
    found = record.setdefault("reference", {"dtype": half, "m": m, "n": n, "k": k, "times_s": []})
    median, _, _ = machine.seconds(lambda: torch.nn.functional.linear(*next(pairs)), batches=5, calls=5)
    found["times_s"].append(median)


def counted(training, machine, record, first):
    """Energy of a step by the device's counter, over a window that is long beside the counter's updates; steps run."""
    if machine.sensors is None:
        return 0
    if machine.sensors.energy() is None:
        record["machine"]["sensors"] = machine.sensors.state() | {"note": machine.sensors.why}
        return 0
    steps = machine.agreed(max(3, math.ceil(ENERGY_WINDOW / statistics.median(record["step_times_s"]))))
    machine.together()
    before, begin = machine.sensors.energy(), time.perf_counter()
    for number in range(steps):
        training.step(first + number)
    state = machine.sensors.state()  # while the device still works
    machine.wait()
    seconds, joules = time.perf_counter() - begin, machine.sensors.energy() - before
    record["energy"] = {"energy_per_step_j": joules / steps, "mean_power_w": joules / seconds}
    record["energy"] |= {"window_s": seconds, "steps": steps}
    record["sensors_under_load"] = state
    return steps


def note(record, loss):
    """Keep a step's loss; one that is no number ends the run."""
    if loss is not None:
        record["losses"].append(float(loss))
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is not finite")


def watched(training, machine, record):
    """Messages and bytes of one step by operation; on CUDA its memory is the allocator's, read later."""
    from run.states import size
    from run.watch import Watch

    weights, gradients, states = training.held()
    kept = {"weights_bytes": size(weights, machine.device), "optimizer_bytes": size(states, machine.device)}
    watch = Watch(machine.device, [*weights, *gradients, *states])
    with watch:
        note(record, training.step(WARM_UP - 1))
    record["messages"] = watch.messages()
    record["memory"] = kept | {"watched_peak_bytes": watch.peak}


def allocator():
    """What torch's allocator says of this rank's device."""
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "device_bytes": torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory,
    }


def profiled(training, machine, asked, record, first):
    """Self seconds of every operator (CPU) or kernel (CUDA) in a step, by torch.profiler; on CUDA those of streams."""
    from torch.profiler import ProfilerActivity, profile

    from run.streams import streams

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if machine.kind == "cuda" else [])]
    machine.together()
    with profile(activities=kinds) as found:
        for number in range(PROFILED):
            training.step(first + number)
        machine.wait()
    on_device = machine.kind == "cuda"
    rows = []
    for event in found.key_averages():
        if on_device and getattr(event, "is_user_annotation", False):
            continue  # a span over kernels that have rows of their own
        seconds = (event.self_device_time_total if on_device else event.self_cpu_time_total) / 1e6 / PROFILED
        if seconds > 0 and (not on_device or event.device_type != torch.autograd.DeviceType.CPU):
            rows.append({"name": event.key, "time_s": seconds, "count": event.count / PROFILED})
    if on_device:
        record |= streams(found.events(), PROFILED)
    record["operators"] = sorted(rows, key=lambda row: -row["time_s"])[:200]
    if asked.trace is not None and machine.rank == 0:
        found.export_chrome_trace(str(asked.trace))


if __name__ == "__main__":
    main()
