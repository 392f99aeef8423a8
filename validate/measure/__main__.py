"""Measure this machine's devices: `torchrun --nproc-per-node N -m measure --device cuda --out FOLDER`.

All ranks run the same kernels at the same time, as in training; rank 0 writes a CSV table for each kind and
machine.json. `simtrain measure` starts this script and makes a profile of what it writes.
"""

import argparse
import csv
import json
import pathlib
import sys
import time

import torch
import torch.distributed as dist
from machine import Machine, too_old

from measure import collectives, kernels

MEBI = 2**20
LIMIT = {"quick": 50.0, "full": 270.0}
"""Seconds of a whole profile; whatever is not reached by then is left out."""
SIZES = {
    ("cpu", "quick"): {"m": (64, 256, 1024), "n": (64, 256, 1024), "k": (64, 256, 1024)},
    ("cpu", "full"): dict.fromkeys("mnk", (32, 64, 128, 256, 512, 1024, 2048, 4096)),
    ("cuda", "quick"): dict.fromkeys("mnk", (512, 2048, 8192)),
    ("cuda", "full"): {
        "m": (1024, 2048, 4096, 8192, 16384, 32768),
        "n": (512, 1024, 2048, 4096, 8192, 16384, 32768),
        "k": (512, 1024, 2048, 4096, 8192, 16384),
    },
}
MOST_FLOP = {"cpu": 3e9, "cuda": 5e13}
SLOW = 0.1
"""Of these, for fp32 on a GPU, which has no tensor core for it."""
UNTIL = (0.85, 0.9, 0.93)
"""Share of the time after which products in the first formats end; those in the last one end at 0.95."""
ATTENTION = {
    ("cpu", "quick"): [(b, s, h, h, d) for b in (1,) for s in (64, 256, 1024) for h in (4, 8) for d in (32, 64)],
    ("cpu", "full"): [
        (1, s, h, h, d) for s in (64, 128, 256, 512, 1024, 2048) for h in (2, 4, 8) for d in (32, 64, 128)
    ],
    ("cuda", "quick"): [(1, s, h, h, 128) for s in (1024, 4096, 16384) for h in (8, 32)],
    ("cuda", "full"): [
        (b, s, h, k, d)
        for d in (64, 128)
        for s in (1024, 2048, 4096, 8192, 16384)
        for h, k in ((8, 8), (8, 1), (32, 32), (32, 8))
        for b in (1, 4)
        if b * s <= 32768
    ],
}
ELEMENTS = {"cpu": (2**14, 2**17, 2**20, 2**22), "cuda": (2**20, 2**23, 2**25, 2**27)}
POWER_WINDOW = 2.0
"""Seconds; energy counters are renewed some ten times a second."""
MESSAGES = {"quick": [4**power for power in range(6, 13)], "full": [2**power for power in range(9, 29)]}
"""Bytes: 4 KiB to 16 MiB, or 512 B to 256 MiB."""


def main():
    """Measure, and write on rank 0."""
    read = argparse.ArgumentParser(prog="measure", description=__doc__)
    read.add_argument("--device", choices=("cpu", "cuda"), required=True)
    read.add_argument("--quick", action="store_true")
    read.add_argument("--out", required=True)
    asked = read.parse_args()
    if too_old():
        sys.exit(too_old())
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here (torch.cuda.is_available() is False)")
    begin, how = time.monotonic(), "quick" if asked.quick else "full"
    machine = Machine(asked.device)
    if machine.world > 1:
        machine.join()
    folder, failed = pathlib.Path(asked.out), {}
    folder.mkdir(parents=True, exist_ok=True)
    measured(machine, how, begin, folder, failed)
    facts = machine.described() | {"how": how, "measured_in_s": time.monotonic() - begin, "failed": failed}
    if machine.rank == 0:
        (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if machine.world > 1:
        machine.together()
        dist.destroy_process_group()


def measured(machine, how, begin, folder, failed):
    """Write every table once it is measured, and put what raised into `failed`.

    Each table has a share of the time, so that none starves the others, and each number format one of the products'.
    """
    limit, device, tables = LIMIT[how], machine.device.type, {}

    def until(share):
        """Rank 0's clock, so that all ranks stop together: each measurement begins when all are there."""
        return lambda: bool(machine.agreed(int(time.monotonic() - begin > share * limit)))

    def measure(table, what, rows):
        if machine.rank == 0:
            print(f"measuring {what} ({time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
        found = tables.setdefault(table, [])
        try:
            for row in rows:
                found.append(row)
        except Exception as error:  # a kernel that this device lacks costs its own rows only
            failed[what] = f"{type(error).__name__}: {error}".splitlines()[0]
        if machine.rank == 0 and found:
            write(folder / f"{table}.csv", found)

    half, width, vocabularies = ("fp32", 256, (1024, 8192)) if device == "cpu" else ("bf16", 4096, (32000,))
    elements, dtypes = ELEMENTS[device][: 3 if how == "quick" else 4], [half]
    if how == "full":
        dtypes = ["fp32", "bf16"] if device == "cpu" else ["bf16", "fp16", "fp32"]
        if device == "cuda" and torch.cuda.get_device_capability() >= (8, 9):
            dtypes.insert(1, "fp8")
    measure("launch", "launches", kernels.launches(machine))
    measure("copy", "copies", kernels.copies(machine, [MEBI, 16 * MEBI, 64 * MEBI], until(0.1)))
    measure("allocation", "allocations", kernels.allocations(machine, [2**power for power in range(9, 30, 2)]))
    measure("elementwise", "element-wise passes", kernels.passes(machine, half, elements, width, until(0.2)))
    measure("elementwise", "loss", kernels.losses(machine, width, vocabularies, until(0.25)))
    measure("elementwise", "update", kernels.updates(machine, elements, until(0.3)))
    if machine.world > 1:
        measure("collective", "collectives", collectives.collectives(machine, MESSAGES[how], until(0.5)))
    measure("attention_forward", "attention", kernels.attention(machine, half, ATTENTION[device, how], until(0.65)))
    for dtype, share in zip(dtypes, (*UNTIL[: len(dtypes) - 1], 0.95)):
        most = MOST_FLOP[device] * (SLOW if (device, dtype) == ("cuda", "fp32") else 1.0)
        products = kernels.products(machine, dtype, SIZES[device, how], most, until(share))
        measure("matmul", f"products in {dtype}", products)
    measure("power", "power", powers(machine) if device == "cuda" else [])


def write(path, rows):
    """One table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])


def powers(machine):
    """Mean power (W) of WINDOW seconds of each kind of work at stock clocks, by the energy counter."""
    if machine.sensors.energy() is None:
        return
    kinds = {"idle": lambda: time.sleep(0.05)} | kernels.works(machine)
    for name, call in kinds.items():
        call()
        machine.wait()
        before, begin = machine.sensors.energy(), time.perf_counter()
        while time.perf_counter() - begin < POWER_WINDOW:
            for _ in range(10):
                call()
            state = machine.sensors.state()  # while the device still works
            machine.wait()
        seconds = time.perf_counter() - begin
        spent = machine.sensors.energy() - before
        yield {"name": name, "power_w": spent / seconds, "time_s": seconds} | state


if __name__ == "__main__":
    main()
