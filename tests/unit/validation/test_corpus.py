"""Loading published runs: strict, and complete about what is wrong."""

import csv
import json
from pathlib import Path

import pytest

from simtrain.errors import WrongInput
from simtrain.validation.corpus import COLUMNS, corpus
from simtrain.validation.setup import peers, setup

CELLS = {
    "id": "a",
    "source": "mine",
    "model": "small",
    "gpu": "h100-sxm-80gb",
    "gpus": "8",
    "seq": "4096",
    "tp": "2",
    "status": "ok",
    "step_s": "1.5",
    "sp": "True",
}
SHAPE = {"layers": 2, "hidden": 1024, "heads": 8, "kv_heads": 8, "ffn": 4096, "gated_mlp": True, "vocab": 32000}


def write(folder: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    with (folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "models.json").write_text(json.dumps({"small": SHAPE}), encoding="utf-8")
    return folder


def problems(folder: Path) -> list[str]:
    with pytest.raises(WrongInput) as caught:
        corpus(folder)
    return [str(problem) for problem in caught.value.problems]


def test_cells_become_numbers_and_empty_ones_none(tmp_path: Path) -> None:
    row = corpus(write(tmp_path, CELLS)).rows[0]
    assert (row.gpus, row.tp, row.sp, row.step_s, row.dp) == (8, 2, True, 1.5, None)


def test_every_problem_of_every_row_is_reported(tmp_path: Path) -> None:
    found = problems(
        write(
            tmp_path,
            CELLS,
            CELLS | {"gpus": "eight", "step_s": "-1"},
            CELLS | {"id": "b", "model": "smal"},
            CELLS | {"id": "c", "step_s": "nan"},
        )
    )
    assert any("line 3.gpus = 'eight'" in text for text in found)
    assert any("line 3.step_s = '-1'" in text for text in found)
    assert any("line 5.step_s" in text for text in found)
    assert len(found) == 3


def test_an_id_is_unique(tmp_path: Path) -> None:
    assert problems(write(tmp_path, CELLS, CELLS)) == ["runs.csv line 3.id = 'a': is there twice"]


def test_columns_must_be_exactly_these(tmp_path: Path) -> None:
    columns = ("steps", *[name for name in COLUMNS if name != "step_s"])
    found = problems(write(tmp_path, CELLS, columns=columns))
    assert found == ["runs.csv column = 'steps': is not known", "runs.csv column = 'step_s': is missing"]


def test_a_folder_needs_both_files(tmp_path: Path) -> None:
    assert len(problems(tmp_path)) == 2
    assert "is not a folder" in problems(tmp_path / "nowhere")[0]


def test_shipped_runs_load_and_every_source_has_settings() -> None:
    found = corpus()
    assert len(found.rows) == 2588
    assert {row.source for row in found.rows} == set(setup().sources)
    cited = json.loads((Path(__file__).parents[3] / "validate/published/sources.json").read_text(encoding="utf-8"))
    assert {row.source for row in found.rows} == set(cited)


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(WrongInput, match="vtrain"):
        corpus().of_source("vtrain")
    assert {row.source for row in corpus().of_source("mlperf").rows} == {"mlperf"}


def test_peers_name_known_sources() -> None:
    for peer in peers():
        assert set(peer) - {"name", "kind"} <= set(setup().sources)
        assert peer["kind"] in ("measured", "stated")
