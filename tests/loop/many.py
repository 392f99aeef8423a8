"""Run under torchrun: several plans one after the other in the same processes, each as `python -m run` would."""

import argparse
import json
import pathlib
import sys

import torch.distributed as dist
from machine import Machine
from run.__main__ import run


def main() -> None:
    folder, slices, *cases = sys.argv[1:]
    machine = Machine("cpu")
    machine.join()
    for case in cases:
        name, path, steps = case.split("=")
        document = json.loads(pathlib.Path(path).read_text())
        asked = argparse.Namespace(slice=0 if name in slices.split(",") else None, steps=int(steps), trace=None)
        machine.share(document["job"]["cluster"]["node"]["devices"])
        record = {"rank": machine.rank, "step_times_s": [], "host_times_s": [], "held_off_s": [], "losses": []}
        run(document["job"], document["plans"][0]["plan"], machine, asked, record, lambda: None)
        pathlib.Path(folder, f"{name}.rank{machine.rank}.json").write_text(json.dumps(record | {"status": "ok"}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
