"""`simtrain plan`: the answer, the file, the pipe."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_files import CLUSTER, CONFIG, write
from conftest import CODE, ROOT, Run

SMALL = ("plan", "llama-3-8b", "dgx-h100", "--gpus", "8", "--global-batch", "64")


def test_plan(run: Run, snapshot: Callable[[str], None]) -> None:
    outcome = run(*SMALL, "--tokens", "15T", "--top", "3")
    assert (outcome.code, outcome.err) == (0, "")
    snapshot(outcome.out)


def test_nothing_fits(run: Run, snapshot: Callable[[str], None]) -> None:
    outcome = run("plan", "megatron-1008b", "l40s-8x", "--gpus", "8")
    assert (outcome.code, outcome.err) == (1, "")
    snapshot(outcome.out)


def test_json_of_a_plan(run: Run) -> None:
    outcome = run(*SMALL, "--json", "--top", "3")
    answer = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert answer["format_version"] == 1
    assert answer["job"]["model"]["name"] == "llama-3-8b"
    assert [plan["rank"] for plan in answer["plans"]] == [1, 2, 3]
    wanted = "plan step_time_s step_time_low_s step_time_high_s mfu tokens_per_s memory_bytes fits"
    for plan in answer["plans"]:
        assert set(wanted.split()) <= set(plan)
        assert plan["fits"] is True
        assert plan["step_time_low_s"] <= plan["step_time_s"] <= plan["step_time_high_s"]
    times = [plan["step_time_s"] for plan in answer["plans"]]
    assert times == sorted(times)
    counts = answer["counts"]
    assert 0 < counts["fits"] <= counts["legal"] < counts["enumerated"]
    assert counts["legal"] + sum(answer["rejected"].values()) == counts["enumerated"]
    assert answer["elapsed_s"] > 0


def test_json_when_nothing_fits(run: Run) -> None:
    outcome = run("plan", "megatron-1008b", "l40s-8x", "--gpus", "8", "--json")
    answer = json.loads(outcome.out)
    assert outcome.code == 1
    assert answer["plans"] == []
    assert answer["counts"]["fits"] == 0
    assert answer["counts"]["legal"] > 0
    assert sum(answer["rejected"].values()) > 0
    assert answer["least_memory"]["missing_bytes"] > 2**40
    assert answer["hints"]


def test_nothing_fits_says_how_much_is_missing_and_what_would_do(run: Run) -> None:
    out = run("plan", "megatron-1008b", "l40s-8x", "--gpus", "8").out
    assert "the closest plan misses by" in out
    assert "GiB" in out
    assert "would make it fit: " in out
    assert "Candidates dropped, by rule" in out


def test_no_legal_plan_counts_the_rules(run: Run) -> None:
    """No degree of GPT-2's 12 heads and layers leaves one data-parallel rank of 512 devices."""
    asked = ("plan", "gpt-2-small", "dgx-h100", "--gpus", "512", "--global-batch", "1")
    outcome = run(*asked)
    assert outcome.code == 1
    assert "No legal plan among" in outcome.out
    assert "the batch divides" in outcome.out
    answer = json.loads(run(*asked, "--json").out)
    assert (answer["counts"]["legal"], answer["plans"], answer["pareto"]) == (0, [], [])
    assert "least_memory" not in answer
    assert answer["hints"] == ["a global batch of 512: one sequence a device"]
    assert run(*asked[:-1], "512", "--top", "1").code == 0


def test_job_file_and_flags_that_override_it(run: Run, tmp_path: Path) -> None:
    text = (
        'model = "llama-3-8b"\ncluster = "dgx-h100"\ngpus = 16\nseq = "8k"\nglobal_batch = [32, 64]\ntokens = 15e12\n'
    )
    write(tmp_path / "job.toml", text)
    stated = json.loads(run("plan", "job.toml", "--json").out)["job"]
    assert (stated["devices"], stated["sequence"], stated["tokens"]) == (16, 8192, 15 * 10**12)
    assert stated["global_batch"] == [32, 64]
    changed = json.loads(run("plan", "job.toml", "--gpus", "8", "--seq", "2048", "--json").out)["job"]
    assert (changed["devices"], changed["sequence"]) == (8, 2048)


def test_job_file_finds_files_beside_itself(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "there" / "config.json", CONFIG)
    write(tmp_path / "there" / "mine.toml", CLUSTER)
    write(tmp_path / "there" / "job.toml", 'model = "config.json"\ncluster = "mine.toml"\nglobal_batch = 64\n')
    outcome = run("plan", "there/job.toml", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["job"]["cluster"]["name"] == "mine"


def test_config_json_on_my_cluster(run: Run, tmp_path: Path) -> None:
    config, cluster = write(tmp_path / "model" / "config.json", CONFIG), write(tmp_path / "my-cluster.toml", CLUSTER)
    by_file = run("plan", config, cluster, "--global-batch", "64", "--json")
    by_folder = run("plan", config.parent, cluster, "--global-batch", "64", "--json")
    assert (by_file.code, by_folder.code) == (0, 0)
    assert json.loads(by_file.out)["plans"] == json.loads(by_folder.out)["plans"]
    assert json.loads(by_file.out)["job"]["devices"] == 16


@pytest.mark.parametrize(
    ("text", "sizes"), [("64", [64]), ("128,64", [64, 128]), ("64..256", [64, 128, 192, 256]), ("1k", [1000])]
)
def test_global_batch(run: Run, text: str, sizes: list[int]) -> None:
    answer = json.loads(run(*SMALL[:-1], text, "--json", "--top", "1").out)
    assert answer["job"]["global_batch"] == sizes
    assert answer["plans"][0]["plan"]["global_batch"] in sizes


def test_out_is_written_and_said_so(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    outcome = run(*SMALL, "--out", out, "--json")
    assert outcome.code == 0
    assert json.loads(out.read_text()) == json.loads(outcome.out)
    assert f"simtrain simulate {out}" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert out.stat().st_mode & 0o044, "as readable as other files of the user"


def test_out_follows_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to("real.json")
    assert run(*SMALL, "--out", "link.json").code == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["plans"]


def test_out_is_not_written_when_nothing_fits(run: Run, tmp_path: Path) -> None:
    outcome = run("plan", "megatron-1008b", "l40s-8x", "--gpus", "8", "--out", "plan.json")
    assert outcome.code == 1
    assert "plan.json was not written" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_output_in_a_pipe_is_plain_and_unwrapped(shell: Run) -> None:
    outcome = shell(*SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    assert "\x1b" not in outcome.out
    lines = outcome.out.splitlines()
    assert not any(line != line.rstrip() for line in lines)
    ranked = lines[lines.index("Ranked plans (= : its error bar reaches the best)") + 2 :][:5]
    assert [line.split()[0].rstrip("=") for line in ranked] == ["1", "2", "3", "4", "5"]


def test_narrow_output_wraps_no_layout(shell: Run) -> None:
    outcome = shell(*SMALL, env={"COLUMNS": "80"})
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "Why they stand there" in outcome.out
    ranked = outcome.out[outcome.out.index("Ranked") : outcome.out.index("Why they")].splitlines()
    assert len(ranked) == 2 + 5


def test_colour_is_for_those_who_want_it(shell: Run) -> None:
    colour = re.compile(r"\x1b\[(?:3|9)[0-7]m")
    assert colour.search(shell(*SMALL, env={"FORCE_COLOR": "1"}).out)
    assert not colour.search(shell(*SMALL, env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).out)


def test_a_terminal_without_unicode(shell: Run) -> None:
    out = shell(*SMALL, env={"PYTHONIOENCODING": "ascii"}).out
    assert out.isascii()
    assert "####" in out


def test_a_reader_that_leaves_early() -> None:
    """`simtrain ... | head -1` ends quietly."""
    command = [sys.executable, "-c", CODE, "show", "clusters", "dgx-h100"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("verb", ["plan", "simulate", "show"])
def test_help_shows_examples_before_options(run: Run, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = run(verb, "--help")
    assert outcome.code == 0
    help = outcome.out
    assert help.index("Examples:") < help.index("Exit codes") < help.index("Options")
    assert "--json" in help
    examples = help[help.index("Examples:") : help.index("Exit codes")].splitlines()[2:]
    examples = [line.strip() for line in examples[: next(i for i, line in enumerate(examples) if not line.strip())]]
    for line, before in zip(examples, ["", *examples], strict=False):
        assert line.startswith("simtrain ") or before.endswith("\\"), f"wrapped: {line}"


def test_help_of_the_program(run: Run) -> None:
    for arguments in (("--help",), ()):
        outcome = run(*arguments)
        assert "simtrain plan " in outcome.out + outcome.err
        assert "Usage: simtrain" in outcome.out + outcome.err
    assert run("--help").code == 0
    assert run().code == 2


OLD_DEVICE = """
name = "old"
nodes = 2
[fabric]
kind = "fat tree"
latency = "3 us"
oversubscription = 1
[node]
name = "mynode"
title = "n"
devices = 4
scaleup = { kind = "pcie", bandwidth = "12 GB/s", switched = false }
nic = { count = 1, bandwidth = "100 Gbit/s" }
host = { memory = "256 GB", device_bandwidth = "12 GB/s" }
[device]
name = "p100"
title = "P100"
vendor = "NVIDIA"
architecture = "volta"
memory = "16 GB"
memory_bandwidth = "700 GB/s"
power_limit = "250 W"
[device.peak]
fp32 = "10 TFLOP/s"
"""


def test_a_device_without_half_precision(run: Run, tmp_path) -> None:
    """No fused attention, no bf16: planned in fp32 on laws alone."""
    path = tmp_path / "old.toml"
    path.write_text(OLD_DEVICE)
    outcome = run("plan", "gpt-2", str(path), "--gpus", "8", "--precision", "fp32", "--json")
    assert outcome.code == 0
    best = json.loads(outcome.out)["plans"][0]
    assert 0 < best["mfu"] < 1
    assert best["measured_share"] == 0
    assert best["step_time_high_s"] / best["step_time_s"] >= 1.3 - 1e-9
