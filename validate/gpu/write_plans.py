"""Write validate/gpu/plans: what `make gpu` runs. `python validate/gpu/write_plans.py` needs simtrain, not torch.

One GPU: 125M to 5.9B dense and a mixture of experts, micro batch 1 to 8, sequences of 1k to 16k, recomputation none,
selective and full, with and without states in host memory (18 bytes a weight: 5.9B take 99 of 139 GiB, 3.4B half of the
host's 128 GiB); then one rank's share of three large plans, of 8B, 70B and 405B. One GPU has no peers: sharded states
(FSDP) are not among them.

`--cluster here/cluster.toml --out FOLDER` writes them for a device of one's own, the large ones on FOLDER/large.toml, a
cluster of DGX H100 nodes with that device; and, beside each, what is predicted of it (FOLDER/predicted/NAME.json).
Predictions are made and committed before the runs:

    1. on the machine with the GPU: `python3 validate/gpu --profile`; its OUT/profile is brought here
    2. here: `simtrain measure --from OUT/profile --out profiles/devices/NAME`, then this script with its cluster.toml;
       profile, plans and predictions are committed
    3. on the machine with the GPU: `python3 validate/gpu --plans FOLDER` until nothing is left
    4. here: `simtrain validate FOLDER/NAME.json --record OUT/runs/NAME.json` (slices with `--slice 0`), for each
"""

import argparse
import pathlib
import subprocess
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE / "models"
HARDWARE = tuple(HERE.parents[1] / "hardware" / kind / "dgx-h100.toml" for kind in ("clusters", "nodes"))
ONE = "CLUSTER --gpus 1 --stack torch-plain"
BIG = "LARGE --stack torch-plain --sp"
PLANS = {
    "01-125m-seq1k-mb8": f"125m {ONE} --seq 1024 --micro-batch 8 --global-batch 16",
    "02-125m-seq4k-mb2": f"125m {ONE} --seq 4096 --micro-batch 2 --global-batch 8",
    "03-350m-seq2k-mb4": f"350m {ONE} --seq 2048 --micro-batch 4 --global-batch 16",
    "04-350m-seq2k-mb4-selective": f"350m {ONE} --seq 2048 --micro-batch 4 --global-batch 16 --recompute selective",
    "05-1300m-seq2k-mb4": f"1300m {ONE} --seq 2048 --micro-batch 4 --global-batch 8",
    "06-1300m-seq4k-mb2-full": f"1300m {ONE} --seq 4096 --micro-batch 2 --global-batch 8 --recompute full",
    "07-1300m-seq16k-mb1-full": f"1300m {ONE} --seq 16384 --micro-batch 1 --global-batch 2 --recompute full",
    "08-1300m-seq4k-mb2-offload": f"1300m {ONE} --seq 4096 --micro-batch 2 --global-batch 4 --offload optimizer",
    "09-2700m-seq2k-mb2-selective": f"2700m {ONE} --seq 2048 --micro-batch 2 --global-batch 8 --recompute selective",
    "10-2700m-seq4k-mb1-full": f"2700m {ONE} --seq 4096 --micro-batch 1 --global-batch 4 --recompute full",
    "11-3400m-seq4k-mb1-full-offload": f"3400m {ONE} --seq 4096 --micro-batch 1 --global-batch 4 --recompute full "
    "--offload optimizer",
    "14-5900m-seq2k-mb1-full": f"5900m {ONE} --seq 2048 --micro-batch 1 --global-batch 4 --recompute full",
    "12-moe-seq2k-mb2": f"moe {ONE} --seq 2048 --micro-batch 2 --global-batch 8",
    "13-moe-seq4k-mb1-full": f"moe {ONE} --seq 4096 --micro-batch 1 --global-batch 4 --recompute full",
    "slice-llama-3-8b-64": f"llama-3-8b {BIG} --gpus 64 --seq 8192 --global-batch 64 --tp 2 --recompute full",
    "slice-llama-3-70b-512": f"llama-3-70b {BIG} --gpus 512 --seq 8192 --global-batch 64 --tp 8 --pp 8 --vpp 1",
    "slice-llama-3-405b-1024": f"llama-3-405b {BIG} --gpus 1024 --seq 4096 --global-batch 128 --tp 8 --pp 16 "
    "--recompute full",
}
CODE = "from simtrain.cli.main import main; main()"


def main():
    """One plan file a line of PLANS; one that does not fit is written too, to see it run out of memory."""
    read = argparse.ArgumentParser(prog="write_plans", description=__doc__)
    read.add_argument("--cluster", type=pathlib.Path, help="of the plans; dgx-h100 if not given")
    read.add_argument("--out", type=pathlib.Path, default=HERE / "plans")
    asked = read.parse_args()
    asked.out.mkdir(exist_ok=True, parents=True)
    clusters = dict.fromkeys(("CLUSTER", "LARGE"), "dgx-h100")
    if asked.cluster:
        clusters = {"CLUSTER": str(asked.cluster), "LARGE": str(large(asked.cluster, asked.out))}
        (asked.out / "predicted").mkdir(exist_ok=True)
    for name, words in PLANS.items():
        model, cluster, *rest = words.split()
        own, path = MODELS / f"{model}.toml", asked.out / f"{name}.json"
        path.write_text(
            simtrain("simulate", str(own) if own.exists() else model, clusters[cluster], *rest, "--json"),
            encoding="utf-8",
        )
        if asked.cluster:
            stage = ["--slice", "0"] if name.startswith("slice") else []
            predicted = simtrain("validate", str(path), *stage, "--dry-run", "--json")
            (asked.out / "predicted" / f"{name}.json").write_text(predicted, encoding="utf-8")


def large(own, folder):
    """A cluster of 128 DGX H100 nodes with the device of `own`, a cluster file."""
    import tomli_w

    described = tomllib.loads(own.read_text(encoding="utf-8"))
    device = described["device"] | {"profile": str((own.parent / described["device"]["profile"]).resolve())}
    whole, node = (tomllib.loads(path.read_text(encoding="utf-8")) for path in HARDWARE)
    del node["device"]
    path = folder / "large.toml"
    described = whole | {"name": "large", "nodes": 128, "device": device, "node": node}
    path.write_text(tomli_w.dumps(described), encoding="utf-8")
    return path


def simtrain(*words):
    """What it prints; a plan that does not fit is an answer, too."""
    done = subprocess.run([sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False)
    if done.returncode == 2:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
