"""`simtrain export` and `simtrain simulate --from`, from outside."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import Run

JOB = ("llama-3-8b", "dgx-h100", "--gpus", "16", "--seq", "4096", "--global-batch", "64")
HERE = ("dgx-h100", "--gpus", "16")


@pytest.fixture
def plan(run: Run) -> dict:
    return json.loads(run("plan", *JOB, "--out", "plan.json", "--json").out)


@pytest.mark.parametrize(
    ("trainer", "own"),
    [
        ("megatron-lm", "arguments.txt"),
        ("torchtitan", "torchtitan.toml"),
        ("deepspeed", "ds_config.json"),
        ("accelerate", "accelerate.json"),
    ],
)
def test_files(run: Run, plan: dict, tmp_path: Path, trainer: str, own: str) -> None:
    outcome = run("export", "plan.json", "--to", trainer, "-o", "run")
    assert outcome.code == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        [own, "launch.sh", "launch.slurm", "NOTES.md"]
    )
    assert outcome.out == (tmp_path / "run" / own).read_text()
    for script in ("launch.sh", "launch.slurm"):
        subprocess.run(["bash", "-n", tmp_path / "run" / script], check=True)
    assert "--nodes=2" in (tmp_path / "run" / "launch.slurm").read_text()
    lost = json.loads(run("export", "plan.json", "--to", trainer, "--json").out)["not_expressed"]
    notes = (tmp_path / "run" / "NOTES.md").read_text()
    assert all(what in notes and f"not expressed: {what}" in outcome.err for what in lost)


def test_what_the_trainers_cannot_do_without_is_there_or_noted(run: Run, tmp_path: Path) -> None:
    """Steps of a run, the learning rate Megatron-LM stops without, the checkpoints its FSDP asks for."""
    assert run("plan", *JOB, "--tokens", "1B", "--out", "long.json").code == 0
    steps = 3815
    notes = {}
    for trainer in ("megatron-lm", "torchtitan", "deepspeed", "accelerate"):
        run("export", "long.json", "--to", trainer, "-o", trainer)
        notes[trainer] = (tmp_path / trainer / "NOTES.md").read_text()
    assert f"steps = {steps}" in (tmp_path / "torchtitan/torchtitan.toml").read_text()
    assert "for torchtitan 0.2" in notes["torchtitan"]
    assert f"a run of {steps} steps" in notes["deepspeed"]
    assert f"a run of {steps} steps" in notes["accelerate"]
    script = (tmp_path / "megatron-lm/launch.sh").read_text()
    assert "--lr " in script
    assert "--train-iters" not in script
    assert "rotary base" in notes["megatron-lm"]
    whole = json.loads(run("simulate", *JOB, "--zero", "3", "--micro-batch", "1", "--json").out)
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    assert "--ckpt-format fsdp_dtensor" in run("export", "whole.json", "-o", "fsdp").out
    assert "--train-iters" in (tmp_path / "fsdp/launch.sh").read_text()


def test_wrong_export(run: Run, plan: dict, tmp_path: Path) -> None:
    outcome = run("export", "plan.json", "--to", "megatron", "--rank", "77", "-o", "plan.json")
    assert (outcome.code, outcome.out) == (2, "")
    assert len(outcome.errors) == 3
    assert "megatron-lm" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def arguments(run: Run) -> str:
    return run("export", "plan.json", "-o", "run").out.replace("\n", " ")


def test_the_best_plan_comes_back(run: Run, plan: dict) -> None:
    outcome = run("simulate", "--from", "megatron-lm", arguments(run), *HERE, "--json")
    assert outcome.code == 0
    answer = json.loads(outcome.out)
    assert answer["plans"][0]["plan"] == plan["plans"][0]["plan"]
    assert answer["plans"][0]["step_time_s"] == plan["plans"][0]["step_time_s"]
    assert answer["against_best"]["settings"] == {}
    assert "It is the best plan of this job." in run("simulate", "--from", "megatron-lm", arguments(run), *HERE).out


def test_a_slow_command_line_learns_why(run: Run, plan: dict) -> None:
    slow = arguments(run) + " --recompute-granularity full --recompute-method uniform --unheard-of 3 --no-news"
    outcome = run("simulate", "--from", "megatron-lm", slow, *HERE)
    assert outcome.code == 0
    assert "--unheard-of\n" in outcome.out
    assert "--no-news\n" in outcome.out
    assert "--recompute-granularity" in outcome.out.split("Settings to change")[1]
    answer = json.loads(run("simulate", "--from", "megatron-lm", slow, *HERE, "--json").out)
    assert answer["imported"]["not_understood"] == ["--unheard-of", "--no-news"]
    assert answer["against_best"]["step_time_s"] > 0
    assert sum(answer["against_best"]["time_by_term_s"].values()) == pytest.approx(
        answer["against_best"]["step_time_s"]
    )


def test_a_file_and_options_beside_it(run: Run, plan: dict) -> None:
    run("export", "plan.json", "--to", "deepspeed", "-o", "ds")
    outcome = run(
        "simulate", "llama-3-8b", *HERE, "--from", "deepspeed", "ds/ds_config.json", "--seq", "4096",
        "--recompute", "full", "--json",
    )  # fmt: skip
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert found["plans"][0]["plan"]["recompute"] == "full"
    assert found["job"]["sequence"] == 4096
    missing = run("simulate", "dgx-h100", "--from", "deepspeed", "ds/ds_config.json")
    assert missing.code == 2
    assert "model: is not in this configuration" in missing.err


CONTRADICTIONS = {
    "--bf16 --fp16": "two number formats",
    "--num-layers-per-virtual-pipeline-stage 3 --pipeline-model-parallel-size 2": "must divide the 32 layers",
    "--recompute-granularity full": "needs --recompute-method",
    "--recompute-granularity selective --recompute-method block": "selective is stated",
    "--overlap-param-gather --overlap-grad-reduce": "without a sharded optimizer",
    "--expert-model-parallel-size 2": "the model has none",
    "--num-query-groups 4": "does nothing without --group-query-attention",
    "--tensor-model-parallel-size 2 --tensor-model-parallel-size 4": "more than once",
    "--pipeline-model-parallel-size $PP": "is a shell variable",
    "--tensor-model-parallel-size two": "whole number",
    "--max-position-embeddings 1024": "is below --seq-length 4096",
}
SMALL = "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --seq-length 4096 --micro-batch-size 1"


@pytest.mark.parametrize("flags", CONTRADICTIONS)
def test_contradictions_are_explained(run: Run, flags: str) -> None:
    outcome = run("simulate", "--from", "megatron-lm", f"{SMALL} --global-batch-size 64 {flags}", *HERE)
    assert (outcome.code, outcome.out) == (2, "")
    assert CONTRADICTIONS[flags] in outcome.err


def test_everything_wrong_at_once(run: Run) -> None:
    flags = "--bf16 --fp16 --num-layers x --num-query-groups 4 --tensor-model-parallel-size $TP"
    outcome = run("simulate", "--from", "megatron-lm", flags, "nowhere", "--gpus", "no", "--pp", "x", "--rank", "2")
    assert outcome.code == 2
    for part in (
        "nowhere",
        "--gpus",
        "--pp",
        "--rank",
        "two number formats",
        "--num-layers",
        "--num-query-groups",
        "$TP",
        "--hidden-size",
    ):
        assert part in outcome.err


@pytest.mark.parametrize(
    ("trainer", "text", "said"),
    [
        ("megatron", "--bf16", "megatron-lm"),
        ("megatron-lm", "no-such-file", "cannot be read"),
        ("megatron-lm", " ", "is empty"),
        ("torchtitan", "[training\n", "is not valid TOML"),
        (
            "torchtitan",
            "[activation_checkpoint]\nmode = 'some'\n[parallelism]\ntensor_parallel_degree = '2'\n",
            "must be",
        ),
        (
            "torchtitan",
            "[parallelism]\ndata_parallel_shard_degree = 4\n[training]\nglobal_batch_size = 64\nseq_len = 4096\n",
            "is not the 16 that 16 devices leave",
        ),
        ("deepspeed", "{", "is not valid JSON"),
        ("deepspeed", "[]", "is not a JSON object"),
        ("deepspeed", '{"bf16": {"enabled": true}, "fp16": {"enabled": true}}', "two number formats"),
        ("deepspeed", '{"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}', "stage 3"),
    ],
)
def test_wrong_configurations(run: Run, trainer: str, text: str, said: str) -> None:
    outcome = run("simulate", "llama-3-8b", *HERE, "--from", trainer, text)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_unknown_keys_of_files_are_listed(run: Run) -> None:
    text = '{"train_batch_size": 64, "train_micro_batch_size_per_gpu": 1, "odd": 2, '
    text += '"zero_optimization": {"stage": 3, "new": 1}}'
    answer = json.loads(
        run("simulate", "llama-3-8b", *HERE, "--from", "deepspeed", text, "--seq", "4096", "--json").out
    )
    assert answer["imported"]["not_understood"] == ["odd", "zero_optimization.new"]


@pytest.mark.parametrize(
    ("trainer", "text", "batch"),
    [
        ("megatron-lm", SMALL.replace("batch-size 1", "batch-size 2"), 32),
        ("deepspeed", '{"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 3}', 96),
        ("torchtitan", "[training]\nlocal_batch_size = 4\nseq_len = 4096\n", 64),
    ],
)
def test_a_batch_nobody_states_is_what_the_trainer_takes(run: Run, trainer: str, text: str, batch: int) -> None:
    outcome = run("simulate", "llama-3-8b", *HERE, "--from", trainer, text, "--seq", "4096", "--json")
    assert json.loads(outcome.out)["plans"][0]["plan"]["global_batch"] == batch


def test_batches_that_do_not_multiply(run: Run) -> None:
    text = '{"train_batch_size": 64, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 3}'
    outcome = run("simulate", "llama-3-8b", *HERE, "--from", "deepspeed", text)
    assert outcome.code == 2
    assert "are not the batch of 64" in outcome.err


@pytest.mark.parametrize("flags", ["--fp8-format e5m2", "--optimizer muon", "--fp8-format hybrid --fp8-recipe own"])
def test_what_the_catalog_has_not_is_said(run: Run, flags: str) -> None:
    text = f"{SMALL} --bf16 --use-distributed-optimizer {flags} --global-batch-size 64"
    assert "is taken" in run("simulate", "--from", "megatron-lm", text, *HERE).out


@pytest.mark.parametrize("trainer", ["megatron-lm", "torchtitan", "deepspeed", "accelerate"])
def test_a_memory_plan_no_trainer_can_be_told_is_noted(run: Run, plan: dict, trainer: str) -> None:
    chosen = plan["plans"][0]["plan"]
    tensors = {"normed": {"recompute": 1}}
    chosen |= {
        "recompute": "none",
        "full_layers": 0,
        "memory": {"stages": [{"first": 0, "last": 0, "tensors": tensors}]},
    }
    Path("treated.json").write_text(json.dumps(plan))
    assert run("export", "treated.json", "--to", trainer, "-o", "run").code == 0
    assert "the memory plan" in Path("run/NOTES.md").read_text()


@pytest.mark.parametrize(("zero", "serial"), [("1", True), ("3", False)])
def test_fsdp_of_megatron_starts_kernels_as_it_likes(run: Run, zero: str, serial: bool) -> None:
    layout = ("--tp", "2", "--sp", "--zero", zero)
    answer = json.loads(run("simulate", *JOB, *layout, "--json").out)
    Path("one.json").write_text(json.dumps(answer))
    assert run("export", "one.json", "--to", "megatron-lm", "-o", "run").code == 0
    assert ("CUDA_DEVICE_MAX_CONNECTIONS=1" in Path("run/launch.sh").read_text()) == serial


@pytest.mark.parametrize(
    ("trainer", "text", "said"),
    [
        ("torchtitan", "[parallelism]\ntensor_parallel_degree = 0\n", "must be at least 1"),
        ("torchtitan", "[training]\nlocal_batch_size = -1\n", "must be at least 1"),
        (
            "torchtitan",
            '[parallelism]\npipeline_parallel_degree = 2\npipeline_parallel_schedule = ["x"]\n',
            "is not known",
        ),
    ],
)
def test_degrees_and_names_that_cannot_be(run: Run, trainer: str, text: str, said: str) -> None:
    Path("file.toml").write_text(text)
    outcome = run("simulate", "--from", trainer, "file.toml", "llama-3-8b", *HERE)
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.parametrize(
    ("zero", "said"),
    [
        ({"stage": 3, "offload_param": {"device": "cpu"}}, "taken as offload of all states"),
        (
            {"stage": 3, "offload_param": {"device": "nvme"}, "offload_optimizer": {"device": "nvme"}},
            "offload:all=nvme",
        ),
    ],
)
def test_deepspeed_offload_that_is_read_otherwise_is_said(run: Run, zero: dict, said: str) -> None:
    Path("ds.json").write_text(json.dumps({"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero}))
    outcome = run("simulate", "--from", "deepspeed", "ds.json", "llama-3-8b", *HERE)
    assert said in " ".join((outcome.out + outcome.err).split())
