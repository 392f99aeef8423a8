"""Write validate/gpu/plans: what `make gpu` runs. `python validate/gpu/write_plans.py` needs simtrain, not torch.

One GPU: 125M to 3.4B dense and a mixture of experts, micro batch 1 to 8, sequences of 1k to 16k, recomputation none,
selective and full, with and without states in host memory (16 bytes a weight: more than 3.4B leaves little of 128 GiB);
then one rank's share of three large plans. One GPU has no peers: sharded states (FSDP) are not among them.

`--cluster here/cluster.toml --out FOLDER` writes the plans of one GPU for a device of one's own, to predict them from
its profile; large plans need a cluster that holds them.
"""

import argparse
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE / "models"
ONE = "CLUSTER --gpus 1 --stack torch-plain"
BIG = "dgx-h100 --stack torch-plain --sp"
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
    read.add_argument("--cluster", help="of the plans of one GPU; dgx-h100 if not given")
    read.add_argument("--out", type=pathlib.Path, default=HERE / "plans")
    asked = read.parse_args()
    asked.out.mkdir(exist_ok=True, parents=True)
    for name, words in PLANS.items():
        if asked.cluster and "CLUSTER" not in words:
            continue
        model, cluster, *rest = words.split()
        own = MODELS / f"{model}.toml"
        cluster = cluster.replace("CLUSTER", asked.cluster or "dgx-h100")
        command = [sys.executable, "-c", CODE, "simulate", str(own) if own.exists() else model, cluster, *rest]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        if done.returncode == 2:
            sys.exit(f"{name}: {done.stderr}")
        (asked.out / f"{name}.json").write_text(done.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
