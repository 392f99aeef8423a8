"""All that waits for a GPU: `make gpu`, or `python validate/gpu --device cuda`; needs torch and nothing of ours.

Measures the profile, then runs every plan of validate/gpu/plans. Each call works for at most --minutes and goes on
where the last one ended: what has a result is not done again. Run it until it says that nothing is left. Results:
OUT/profile and OUT/runs/NAME.json. `simtrain validate PLAN --record OUT/runs/NAME.json` compares.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
LONGEST = {"profile": 330, "run": 150}
"""Seconds one part may take; a run that takes longer is recorded as such and not tried again."""


def main():
    """Do parts until the time is over."""
    read = argparse.ArgumentParser(prog="gpu", description=__doc__)
    read.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    read.add_argument("--plans", type=pathlib.Path, default=HERE / "plans")
    read.add_argument("--out", type=pathlib.Path, default=HERE.parent / "records" / "gpu")
    read.add_argument("--minutes", type=float, default=8.5)
    read.add_argument("--steps", type=int, default=10)
    asked = read.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    todo = parts(asked)
    for name, command, result, longest in todo:
        if result.exists():
            continue
        if time.monotonic() + longest > end and longest < 60 * asked.minutes:
            print(f"time is over before {name}; run this again to go on")
            return
        print(f"{name}: started", flush=True)
        begin = time.monotonic()
        why = carried_out(command, min(longest, end - time.monotonic()))
        if not result.exists():
            ended(name, result, why)
        print(f"{name}: {why or 'done'}, {time.monotonic() - begin:.0f} s", flush=True)
    print("nothing is left to do")


def parts(asked):
    """Every part: name, command, the file that says it is done, seconds it may take."""
    profile = asked.out / "profile"
    measure = ["-m", "measure", "--device", asked.device, "--out", str(profile)]
    measure += ["--quick"] if asked.device == "cpu" else []
    found = [("profile", measure, profile / "machine.json", LONGEST["profile"])]
    for path in sorted(asked.plans.glob("*.json")):
        stage = ["--slice", "0"] if path.stem.startswith("slice") else []
        result = asked.out / "runs" / path.name
        run = ["-m", "run", str(path), "--device", asked.device, "--steps", str(asked.steps), "--out", str(result)]
        found.append((path.stem, run + stage, result, LONGEST["run"]))
    return found


def carried_out(command, seconds):
    """Run one part in a session of its own; '' or what went wrong. Nothing of it is left behind."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    pathlib.Path(command[command.index("--out") + 1]).parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True)
    try:
        code = process.wait(timeout=seconds)
        return "" if code == 0 else f"ended with code {code}"
    except subprocess.TimeoutExpired:
        return f"took more than {seconds:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ended(name, result, why):
    """Keep what a part that fell had written: its rank's record, or that there is none."""
    part = result.with_suffix(".rank0.json")
    record = json.loads(part.read_text()) if part.exists() else {"status": "failed", "rank": 0, "step_times_s": []}
    record.setdefault("why", why)
    if name != "profile":
        result.write_text(json.dumps({"ranks": [record]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
