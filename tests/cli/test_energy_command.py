"""`simtrain energy` end to end: answers, files, and every complaint at once."""

import csv
import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simtrain.cli.main import app
from simtrain.cli.sizes import largest, sizes
from simtrain.errors import WrongInput
from simtrain.spec.request import Request

PLAN = (
    "llama-3-8b", "dgx-h100", "--gpus", "8", "--seq", "4096", "--global-batch", "32", "--tokens", "1B",
)  # fmt: skip


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("energy") / "plan.json"
    CliRunner().invoke(app, ["plan", *PLAN, "--top", "3", "--out", str(path)], catch_exceptions=False)
    return path


def problems(*arguments: str, verb: str = "energy") -> list[str]:
    with pytest.raises(WrongInput) as wrong:
        CliRunner().invoke(app, [verb, *arguments], catch_exceptions=False)
    return [str(problem) for problem in wrong.value.problems]


def test_answer_and_files(plan_file: Path, tmp_path: Path) -> None:
    clocks, out = tmp_path / "clocks.csv", tmp_path / "with-clocks.json"
    arguments = ["energy", str(plan_file), "--csv", str(clocks), "--out", str(out), "--grid", "FRA", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    answer = json.loads(done.stdout)
    largest, by_pass = answer["largest_clocks"], answer["clocks"]["pass"]
    assert by_pass["energy_j"] <= largest["energy_j"] * 1.001
    energies = [point["energy_j"] for point in answer["frontier"]]
    assert energies == sorted(energies, reverse=True)
    assert largest["bill"]["carbon_kg"] == pytest.approx(largest["bill"]["energy_kwh"] * 0.056039)
    rows = list(csv.DictReader(clocks.read_text().splitlines()))
    passes = json.loads(out.read_text())["plans"][0]["frequency_plan"]["passes"]
    assert len(rows) == len(passes) > 0
    assert float(rows[0]["clock_mhz"]) == passes[0]["clock_mhz"] <= 1980
    assert CliRunner().invoke(app, ["simulate", str(out)], catch_exceptions=False).exit_code == 0


def test_wrong_input_is_reported_at_once(plan_file: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.csv"
    one.write_text("stage,phase,clock_mhz,time_s,energy_j\n0,forward,1410,1,100\n")
    found = problems(
        str(plan_file), "--tariff", "-1 USD/kWh", "--profile", str(one), "--grid", "FRB", "--pue", "0.5",
        "--clocks", "wave", "--csv", str(plan_file),
    )  # fmt: skip
    for part in ("must not be negative", "needs two clocks", "--grid", "--pue", "--clocks", "overwrite"):
        assert any(part in problem for problem in found), part


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--deadline", "1 ms"), "before the fastest step"),
        (("--clock", "1401 MHz"), "is not a clock"),
        (("--power-cap", "0 W"), "draws while it waits"),
        (("--profile", "gpt-3-175b-a40"), "holds 8 stages"),
    ],
)
def test_what_only_the_plan_tells(plan_file: Path, arguments: tuple[str, str], said: str) -> None:
    assert said in problems(str(plan_file), *arguments)[0]


def test_the_objective_reorders_and_limits_bind() -> None:
    run = CliRunner()
    done = run.invoke(app, ["plan", *PLAN, "--objective", "energy", "--json"], catch_exceptions=False)
    ranked = json.loads(done.stdout)["objective"]["ranked"]
    assert [row["energy_j"] for row in ranked] == sorted(row["energy_j"] for row in ranked)
    assert not ranked[0]["largest_clocks"]
    none = run.invoke(app, ["plan", *PLAN, "--deadline", "1 s", "--budget", "1 USD"], catch_exceptions=False)
    assert none.exit_code == 1
    assert "the fastest run takes" in none.stderr
    assert "(--deadline 1.00 s)" in none.stderr
    assert "the cheapest run costs" in none.stderr


def test_the_best_by_the_objective_can_be_taken_out_of_the_plan_file(tmp_path: Path) -> None:
    """The command that is named finds the same step and energy, to what one more choice of clocks changes."""
    run, out = CliRunner(), tmp_path / "best.json"
    done = run.invoke(
        app, ["plan", *PLAN, "--objective", "energy", "--out", str(out), "--json"], catch_exceptions=False
    )
    best = json.loads(done.stdout)["objective"]["ranked"][0]
    told = shlex.split(done.stderr.splitlines()[-1].split("simtrain ")[1])
    found = json.loads(run.invoke(app, [*told, "--json"], catch_exceptions=False).stdout)
    assert found["plans"][0]["plan"] == best["plan"]
    kept = found["clocks"]["stage"]
    assert kept["step_time_s"] == pytest.approx(best["step_time_s"], rel=2e-3)
    assert kept["bill"]["energy_kwh"] * found["steps"] == pytest.approx(best["energy_j"] / 3.6e6, rel=2e-3)


def test_clocks_are_durations_of_a_replay(plan_file: Path, tmp_path: Path) -> None:
    """What `energy --csv` writes, `simulate --durations` runs: the same step."""
    run, clocks, own = CliRunner(), tmp_path / "clocks.csv", tmp_path / "own.json"
    asked = ["energy", str(plan_file), "--straggler", "1.1", "--csv", str(clocks), "--out", str(own), "--json"]
    answer = json.loads(run.invoke(app, asked, catch_exceptions=False).stdout)
    asked = ["simulate", str(plan_file), "--durations", str(clocks), "--json"]
    replayed = json.loads(run.invoke(app, asked, catch_exceptions=False).stdout)["plans"][0]
    assert replayed["step_time_s"] == pytest.approx(answer["clocks"]["pass"]["step_time_s"], rel=1e-6)
    assert replayed["step_time_s"] > 1.05 * answer["largest_clocks"]["step_time_s"]
    at_largest = run.invoke(app, ["simulate", str(own)], catch_exceptions=False)
    assert "has clocks for this plan" in at_largest.stderr
    exported = run.invoke(app, ["export", str(own), "--to", "megatron-lm", "-o", str(tmp_path / "run")])
    assert "not expressed: the clocks" in exported.stderr


def test_money_and_limits_of_a_run_need_a_price_and_tokens() -> None:
    asked = ("llama-3-8b", "a40-8x", "--gpus", "8", "--objective", "cost", "--budget", "1 USD", "--deadline", "1 d")
    found = problems(*asked, verb="plan")
    assert len([problem for problem in found if "states no price" in problem]) == 2
    assert len([problem for problem in found if "states no tokens" in problem]) == 2
    paid = problems(*asked, "--tariff", "0.1 USD/kWh", verb="plan")
    assert not any("states no price" in problem for problem in paid)


@pytest.mark.parametrize(
    ("gpus", "more", "said"),
    [
        ("8..x", ("--objective", "cost"), "neither a list nor a range"),
        ("16..8", ("--objective", "cost"), "runs backwards"),
        ("8,12", ("--objective", "cost"), "neither part of a node"),
        ("8,16", (), "no aim chooses"),
    ],
)
def test_sizes_that_cannot_be_compared(gpus: str, more: tuple[str, ...], said: str) -> None:
    assert said in problems("llama-3-8b", "dgx-h100", "--gpus", gpus, *more, verb="plan")[0]


def test_a_range_is_every_whole_node() -> None:
    asked = Request(model="llama-3-8b", cluster="dgx-h100", gpus="20..48")
    assert [job.devices for job in sizes(asked, largest(asked).job())] == [24, 32, 40, 48]


def test_a_straggler_sets_the_deadline(plan_file: Path) -> None:
    found = problems(str(plan_file), "--straggler", "0.9", "--deadline", "9 s")
    assert any("--straggler" in problem and "at least 1" in problem for problem in found)
    assert any("sets the deadline itself" in problem for problem in found)
