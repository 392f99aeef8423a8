"""`simtrain score` from outside."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = "from simtrain.cli.main import main; main()"


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", CODE, "score", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sources of the shipped runs, in a folder of their own; one row has a schedule nobody knows."""
    published = ROOT / "validate/published"
    shutil.copy(published / "models.json", tmp_path)
    with (published / "runs.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if row["source"] in ("mlperf", "korthikanti-2022")]
        columns = list(reader.fieldnames or ())
    rows[0]["schedule"] = "zb-h1"
    with (tmp_path / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_json_has_a_row_for_each_row(folder: Path) -> None:
    answer = run(str(folder), "--json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert set(document) == {"format_version", "rows", "summary"}
    with (folder / "runs.csv").open(newline="", encoding="utf-8") as file:
        assert [row["id"] for row in document["rows"]] == [row["id"] for row in csv.DictReader(file)]
    assert [row["id"] for row in document["rows"] if row["unsupported"]] == [document["rows"][0]["id"]]
    for row in document["rows"]:
        keys = {"id", "step_time_s", "step_time_low_s", "step_time_high_s", "memory_bytes", "fits", "unsupported"}
        assert keys <= set(row)
        if row["unsupported"] is None:
            assert 0 < row["step_time_low_s"] < row["step_time_s"] < row["step_time_high_s"]
            assert row["device_memory_bytes"] >= row["memory_bytes"] > 0
            assert isinstance(row["fits"], bool)
        else:
            assert "zb-h1" in row["unsupported"]
            assert row["step_time_s"] is None
            assert row["fits"] is None
    summary = document["summary"]
    assert set(summary["sources"]) == {"mlperf", "korthikanti-2022"}
    assert summary["all"]["rows"] == len(document["rows"])
    assert any("korthikanti-2022" in peer for peer in summary["peers"])


def test_predictions_do_not_read_the_measurements(folder: Path) -> None:
    before = json.loads(run(str(folder), "--json").stdout)["rows"]
    with (folder / "runs.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or ())
    for row in rows:
        row |= {"step_s": "1", "peak_mem_gib": "", "mfu_printed": "", "tflops_printed": "", "tokens_per_s_per_gpu": ""}
    with (folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    assert json.loads(run(str(folder), "--json").stdout)["rows"] == before


def test_source_and_worst_for_people(folder: Path) -> None:
    answer = run(str(folder), "--source", "korthikanti-2022", "--worst", "2")
    assert answer.returncode == 0, answer.stderr
    assert "mlperf" not in answer.stdout
    assert answer.stdout.count("seqsel-t5") == 2
    assert "most likely off" in answer.stdout
    assert "Calculon" in answer.stdout


def test_a_broken_folder_tells_everything(folder: Path) -> None:
    path = folder / "runs.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = lines[1].split(",")
    position = lines[0].split(",").index("gpus")
    cells[position] = "many"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n", encoding="utf-8")
    (folder / "models.json").write_text("{", encoding="utf-8")
    answer = run(str(folder), "--worst", "none", "--html", str(folder / "no" / "plot.html"))
    assert answer.returncode == 2
    assert answer.stdout == ""
    for words in ("line 2.gpus = 'many'", "models.json: is not valid JSON", "--worst", "--html"):
        assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_unknown_source_names_the_nearest() -> None:
    answer = run("--source", "layouts")
    assert answer.returncode == 2
    assert "layouts-2023" in answer.stderr


def test_plot_is_one_file(folder: Path) -> None:
    pytest.importorskip("plotly")
    answer = run(str(folder), "--html", str(folder / "plot.html"))
    assert answer.returncode == 0, answer.stderr
    page = (folder / "plot.html").read_text(encoding="utf-8")
    assert "korthikanti-2022 (3)" in page
    assert 'src="http' not in page


def test_without_plotly_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from simtrain.views import plotted

    monkeypatch.setattr(plotted, "find_spec", lambda name: None)
    (problem,) = plotted.plotted(tmp_path / "plot.html")
    assert "simtrain[html]" in problem.hint
    assert str(problem).startswith("--html")


def test_worst_rows_name_a_term_in_json(folder: Path) -> None:
    answer = run(str(folder), "--source", "korthikanti-2022", "--worst", "2", "--json")
    assert answer.returncode == 0, answer.stderr
    worst = json.loads(answer.stdout)["worst"]
    assert len(worst) == 2
    for row in worst:
        first = row["suspects"][0]
        assert first["factor"] > 0
        moved = row["predicted_s"] * (1 + first["share"] * (first["factor"] - 1))
        assert moved == pytest.approx(row["measured_s"])


def test_printed_parts_beside_ours() -> None:
    answer = run("--source", "korthikanti-2022", "--parts", "--json")
    assert answer.returncode == 0, answer.stderr
    parts = json.loads(answer.stdout)["parts"]
    for part in parts:
        unit = "bytes" if "memory" in part["part"] or "activations" in part["part"] else "s"
        assert part["ratio"] == pytest.approx(part[f"predicted_{unit}"] / part[f"measured_{unit}"])
    shown = run("--source", "korthikanti-2022", "--parts").stdout
    assert shown.count("layer forward") == sum("layer forward" in part["part"] for part in parts) == 5
