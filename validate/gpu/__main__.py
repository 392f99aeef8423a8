"""All that waits for a GPU: `make gpu`, or `python validate/gpu --device cuda`; needs torch and nothing of ours.

Measures the profile, then runs every plan of validate/gpu/plans. Each call works for at most --minutes and goes on
where the last one ended: what has a result is not done again. A run that ran out of the device's memory or took its
whole time has one; what fell otherwise, or was cut by --minutes, is tried again by the next call. Exit code 0: nothing
is left. Results: OUT/profile and OUT/runs/NAME.json. `simtrain measure --from OUT/profile` makes a profile of the
former, `simtrain validate PLAN --record OUT/runs/NAME.json` compares the latter.
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
TOO_LONG = "took more than"


def main():
    """Do parts until the time is over."""
    read = argparse.ArgumentParser(prog="gpu", description=__doc__)
    read.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    read.add_argument("--plans", type=pathlib.Path, default=HERE / "plans")
    read.add_argument("--out", type=pathlib.Path, default=HERE.parent / "records" / "gpu")
    read.add_argument("--profile", action="store_true", help="that alone, so that predictions can be made of it")
    read.add_argument("--minutes", type=float, default=8.5)
    read.add_argument("--steps", type=int, default=10)
    asked = read.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    if unready(asked.device):
        sys.exit(unready(asked.device))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    todo = [part for part in parts(asked)[: 1 if asked.profile else None] if not part[2].exists()]
    for name, command, result, longest in todo:
        if time.monotonic() + longest > end and longest < 60 * asked.minutes:
            print(f"time is over before {name}")
            break
        print(f"{name}: started", flush=True)
        begin = time.monotonic()
        allowed = min(longest, end - begin)
        why = carried_out(command, allowed)
        if why and name != "profile":
            ended(result, why, whole=allowed == longest)
        print(f"{name}: {why or 'done'}, {time.monotonic() - begin:.0f} s", flush=True)
    missing = [name for name, _, result, _ in todo if not result.exists()]
    if missing:
        sys.exit(f"run this again to go on; no result yet: {', '.join(missing)}")
    print("nothing is left to do")


def unready(device):
    """Why nothing can run here, else ''."""
    sys.path.insert(0, str(HERE.parent))
    try:
        import torch
        from machine import too_old
    except ImportError as error:
        return f"{sys.executable} has no torch: {error}"
    if device == "cuda" and not torch.cuda.is_available():
        return "torch sees no CUDA device here (torch.cuda.is_available() is False)"
    return too_old()


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
    from machine import processors  # on the path since unready

    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": str(processors())}
    out = pathlib.Path(command[command.index("--out") + 1])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".rank0.json").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True)
    try:
        code = process.wait(timeout=seconds)
        return "" if code == 0 else f"ended with code {code}"
    except subprocess.TimeoutExpired:
        return f"{TOO_LONG} {seconds:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ended(result, why, whole):
    """Keep as a result what trying again would not change; `whole`: the run was given all the time one may take."""
    part = result.with_suffix(".rank0.json")
    record = json.loads(part.read_text()) if part.exists() else {"rank": 0, "step_times_s": []}
    late = whole and why.startswith(TOO_LONG)
    if late:
        record |= {"status": "failed", "why": why}
    if late or record.get("status") == "out of memory":
        result.write_text(json.dumps({"ranks": [record]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
