"""Wrong input: everything that is wrong, each with value, rule and nearest fix; exit code 2; nothing written."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_files import CLUSTER, CONFIG, write
from conftest import Outcome, Run

JOB = ("plan", "llama-3-8b", "dgx-h100")
GPUS = (*JOB, "--gpus", "8")


def refused(outcome: Outcome) -> Outcome:
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err
    return outcome


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plam",), "No such command 'plam'"),
        (("plan",), "Missing argument 'MODEL'"),
        (("simulate",), "Missing argument"),
        ((*GPUS, "--gpu-count", "8"), "No such option: --gpu-count"),
        ((*JOB, "--gpus"), "Option '--gpus' requires an argument"),
        ((*GPUS, "one", "two"), "unexpected extra argument"),
        (("--jso",), "No such option"),
    ],
)
def test_usage(run: Run, arguments: tuple[str, ...], said: str) -> None:
    outcome = refused(run(*arguments))
    assert said in outcome.err


@pytest.mark.parametrize("gpus", ["abc", "0", "-4", "nan", "inf", "-inf", "", " ", "8.5", "1e3", "8 GB", "0.4"])
def test_gpus_that_are_no_count(run: Run, gpus: str) -> None:
    outcome = refused(run(*JOB, "--gpus", gpus))
    assert outcome.errors == [f"--gpus = {gpus!r}: must be a whole number of at least 1"]
    assert "hint: write it like 64" in outcome.err


@pytest.mark.parametrize(
    ("gpus", "fix"), [("3", "2 or 4"), ("12", "8 or 16"), ("5", "4 or 8"), ("1001", "1000 or 1008")]
)
def test_gpus_that_split_a_node(run: Run, gpus: str, fix: str) -> None:
    outcome = refused(run(*JOB, "--gpus", gpus))
    assert f"--gpus = {gpus}: is neither part of a node nor whole nodes" in outcome.err
    assert f"hint: use {fix}" in outcome.err
    for number in fix.split(" or "):
        assert "--gpus" not in run("simulate", *JOB[1:], "--gpus", number, "--zero", "x").err


@pytest.mark.parametrize("flag", ["--gpus", "--seq", "--global-batch"])
def test_numbers_beyond_any_cluster(run: Run, flag: str) -> None:
    assert "must be at most" in refused(run(*JOB, flag, "99999999999999999999")).err


@pytest.mark.parametrize("flag", ["--seq", "--tokens", "--global-batch", "--top"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "many", ""])
def test_other_counts(run: Run, flag: str, value: str) -> None:
    outcome = refused(run(*GPUS, flag, value))
    assert len(outcome.errors) == 1
    assert outcome.errors[0].startswith(f"{flag} = {value!r}: must be a whole number of at least 1")


@pytest.mark.parametrize(
    ("batch", "rule", "fix"),
    [
        ("100..50", "runs backwards", "write 50..100"),
        ("1..x", "not 'x'", "1536..4096"),
        ("..8", "not ''", "1536..4096"),
        ("8,,16", "not ''", "512,1024"),
        ("1..100000", "is 100,000 batch sizes", "a list like 512,1024"),
    ],
)
def test_global_batch(run: Run, batch: str, rule: str, fix: str) -> None:
    outcome = refused(run(*GPUS, "--global-batch", batch))
    assert len(outcome.errors) == 1
    assert f"--global-batch = {batch!r}" in outcome.err
    assert rule in outcome.err
    assert fix in outcome.err


def test_unknown_names_get_the_nearest(run: Run) -> None:
    flags = ("--precision", "bf16mixed", "--optimizer", "adam-w", "--stack", "megatroncore")
    outcome = refused(run("plan", "lama-3-8b", "dgxh100", *flags))
    assert len(outcome.errors) == 5
    for name in ("llama-3-8b", "dgx-h100", "bf16-mixed", "adamw", "megatron-core"):
        assert name in outcome.err


def test_formats_the_device_does_not_have(run: Run) -> None:
    outcome = refused(run("plan", "llama-3-8b", "dgx-a100", "--gpus", "8", "--precision", "fp8-mixed"))
    assert outcome.errors == ["--precision = 'fp8-mixed': NVIDIA A100 SXM4 80 GB has no fp8 units"]
    assert "it can run bf16-mixed" in outcome.err


def test_a_sequence_beyond_learned_positions(run: Run) -> None:
    outcome = refused(run("plan", "gpt-2-small", "dgx-h100", "--gpus", "8", "--seq", "8k"))
    assert "learned positions" in outcome.err
    assert "use at most 1024" in outcome.err


def test_cluster_missing(run: Run) -> None:
    outcome = refused(run("plan", "llama-3-8b", "--gpus", "-4"))
    assert len(outcome.errors) == 2
    assert "CLUSTER: is missing" in outcome.err
    assert "simtrain show clusters" in outcome.err


def test_everything_at_once(run: Run, tmp_path: Path) -> None:
    numbers = ("--gpus", "abc", "--seq", "-3", "--global-batch", "100..50", "--tokens", "15X", "--top", "0")
    names = ("--precision", "bf", "--optimizer", "sgdd", "--stack", "mega", "--out", "none/plan.json")
    outcome = refused(run("plan", "lama", "dgxh100", *numbers, *names))
    assert len(outcome.errors) == 11
    assert list(tmp_path.iterdir()) == []


def test_complaints_go_to_standard_error_of_the_process(shell: Run) -> None:
    outcome = refused(shell(*JOB, "--gpus", "abc", "--seq", "0"))
    assert "\x1b" not in outcome.err
    assert len(outcome.errors) == 2
    assert refused(shell("plan", "--nonsense")).err.count("No such option") == 1


def test_wrong_input(run: Run, snapshot: Callable[[str], None]) -> None:
    snapshot(refused(run("plan", "lama-3-8b", "dgx-h100", "--gpus", "12", "--seq", "0")).err)


FILES: dict[str, tuple[str, str, list[str]]] = {
    "broken TOML": ("job.toml", 'model = "llama-3-8b"\ncluster = dgx\n', ["is not valid TOML", "line 2"]),
    "unknown key": ("job.toml", 'modle = "llama-3-8b"\ncluster = "dgx-h100"\n', ["modle", "did you mean model?"]),
    "wrong type": (
        "job.toml",
        'model = "llama-3-8b"\ncluster = "dgx-h100"\ngpus = true\n',
        ["gpus = True", "whole number"],
    ),
    "no model": ("job.toml", 'cluster = "dgx-h100"\n', ["MODEL: is missing"]),
    "no cluster": ("job.toml", 'model = "llama-3-8b"\n', ["CLUSTER: is missing"]),
    "wrong value": ("job.toml", 'model = "llama-3-8b"\ncluster = "dgx-h100"\nseq = "8 GB"\n', ["--seq = '8 GB'"]),
    "half a GPU": ("job.toml", 'model = "llama-3-8b"\ncluster = "dgx-h100"\ngpus = 8.5\n', ["gpus = 8.5"]),
    "binary": ("job.toml", "\x00\x01", ["is not valid TOML"]),
}


@pytest.mark.parametrize(("name", "text", "said"), FILES.values(), ids=FILES.keys())
def test_job_files(run: Run, tmp_path: Path, name: str, text: str, said: list[str]) -> None:
    outcome = refused(run("plan", write(tmp_path / name, text)))
    assert all(part in outcome.err for part in said)


def test_job_file_and_flags_are_reported_together(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "job.toml", "this is not TOML\n")
    outcome = refused(run("plan", "job.toml", "--gpus", "0", "--top", "none"))
    assert len(outcome.errors) == 3
    assert "is missing" not in outcome.err


@pytest.mark.parametrize(
    "arguments", [("no.toml",), ("no.json", "dgx-h100"), ("llama-3-8b", "no.toml"), (".", "dgx-h100")]
)
def test_files_that_are_not_there(run: Run, arguments: tuple[str, ...]) -> None:
    outcome = refused(run("plan", *arguments, "--gpus", "8"))
    assert "cannot be read" in outcome.err


CLUSTERS = {
    "a rate for a size": ("1 TB", "1 TB/s", "has unit 'TB/s', but this is in B"),
    "a size for a rate": ("50 GB/s", "80 GB", "has unit 'GB', but this is in B/s"),
    "no unit": ("5 us", "5", "has no unit"),
    "a bare number": ('"5 us"', "5", "has no unit"),
    "an unknown unit": ("5 us", "5 fortnights", "has unit 'fortnights'"),
    "negative": ("5 us", "-5 us", "must not be negative"),
    "not a number": ("5 us", "nan us", "is not a number with a unit"),
    "too good": ("oversubscription = 1", "oversubscription = 0.5", "greater than or equal to 1"),
    "NaN": ("oversubscription = 1", "oversubscription = nan", "finite number"),
    "no nodes": ("nodes = 2", "nodes = 0", "greater than 0"),
    "unknown device": ('"l40s"', '"l40"', "did you mean l40s"),
    "unknown key": ("nodes = 2", "nodes = 2\nfabrik = 3", "did you mean fabric?"),
    "broken": ("nodes = 2", "nodes = two", "is not valid TOML: Invalid value (at line 1"),
    "missing": ("[fabric]", "[fabric_]", "cluster.fabric: is missing"),
}


@pytest.mark.parametrize(("there", "instead", "said"), CLUSTERS.values(), ids=CLUSTERS.keys())
def test_cluster_files(run: Run, tmp_path: Path, there: str, instead: str, said: str) -> None:
    assert there in CLUSTER
    write(tmp_path / "mine.toml", CLUSTER.replace(there, instead, 1))
    assert said in refused(run("plan", "llama-3-8b", "mine.toml")).err


def test_all_that_is_wrong_with_a_cluster_file_and_more(run: Run, tmp_path: Path) -> None:
    text = CLUSTER.replace("50 GB/s", "80 GB").replace("1 TB", "1 TB/s").replace('"5 us"', "5")
    write(tmp_path / "mine.toml", text)
    assert len(refused(run("plan", "llama-3-8b", "mine.toml", "--seq", "x")).errors) == 4


CONFIGS = {
    "unknown type": ('"llama"', '"lama"', "model_type = 'lama': is not a known model_type"),
    "no type": ('"model_type": "llama",', "", "model_type: is missing"),
    "missing field": ('"num_hidden_layers": 32,', "", "num_hidden_layers: is missing"),
    "a word for a number": ("32,", '"many",', "num_hidden_layers = 'many'"),
    "zero": ("4096", "0", "hidden_size = 0"),
    "heads": ('32,\n "num_key', '33,\n "num_key', "must divide heads (33)"),
    "broken JSON": (": 4096,", ": ,", "line 3"),
}


@pytest.mark.parametrize(("there", "instead", "said"), CONFIGS.values(), ids=CONFIGS.keys())
def test_config_files(run: Run, tmp_path: Path, there: str, instead: str, said: str) -> None:
    assert there in CONFIG
    write(tmp_path / "config.json", CONFIG.replace(there, instead, 1))
    assert said in refused(run("plan", "config.json", "dgx-h100", "--gpus", "8")).err


def test_missing_fields_of_a_config_are_named_all_at_once(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "config.json", '{"model_type": "llama", "hidden_size": 4096}')
    outcome = refused(run("plan", "config.json", "dgx-h100", "--gpus", "12"))
    assert len(outcome.errors) >= 5
    assert "use 8 or 16" in outcome.err


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert outcome.code == 0
    assert outcome.out.startswith("simtrain")


def test_help_imports_nothing_heavy() -> None:
    """Nothing of ours; typer itself may bring pydantic."""
    code = "import sys; sys.argv = ['simtrain', 'plan', '--help']\nfrom simtrain.cli.main import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'numpy', 'scipy', 'simtrain.spec.base'} & set(sys.modules)))"
    root = str(Path(__file__).parents[2])
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=False).returncode == 0


def test_a_job_file_with_a_wrong_key_reports_the_rest_too(run: Run, tmp_path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('modle = "x"\ntokens = "nan"\nseq = -1\nglobal_batch = [512, 0]\nstack = 3\n')
    outcome = refused(run("plan", str(path)))
    assert len(outcome.errors) == 5
    for part in ("modle", "--tokens", "--seq", "--global-batch", "stack"):
        assert part in outcome.err


def test_a_layout_with_unreadable_degrees_reports_the_others_too(run: Run) -> None:
    job = ("llama-3-8b", "dgx-h100", "--gpus", "64", "--seq", "4096", "--global-batch", "64")
    outcome = refused(run("simulate", *job, "--tp", "3", "--zero", "5", "--micro-batch", "0"))
    for part in ("--zero", "--micro-batch", "tensor degree divides heads", "does not divide the 64"):
        assert part in outcome.err


def test_more_devices_than_a_users_own_cluster_has(run: Run, tmp_path) -> None:
    path = tmp_path / "mine.toml"
    fabric = '[fabric]\nkind = "fat tree"\nlatency = "3 us"\noversubscription = 1\n'
    path.write_text(f'name = "mine"\nnode = "dgx-h100"\nnodes = 2\n{fabric}')
    outcome = refused(run("plan", "llama-3-8b", str(path), "--gpus", "32"))
    assert "more than the 16 devices" in outcome.err


@pytest.mark.parametrize("zero", ['value = "0 GB"', 'value = "0 TFLOP/s"'])
def test_nothing_of_a_device_is_zero(run: Run, tmp_path, zero: str) -> None:
    unit = "memory" if "GB" in zero else "peak.bf16"
    path = tmp_path / "mine.toml"
    node = '[node]\ndevice = "h100-sxm-80gb"\n'
    path.write_text(f'name = "mine"\nnodes = 1\n{node}[device]\n{unit} = {{ {zero} }}\n')
    assert "must be more than zero" in refused(run("plan", "llama-3-8b", str(path))).err
