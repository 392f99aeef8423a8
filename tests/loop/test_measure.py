"""What a measurement leaves when a kernel raises, and profiles of tables that were measured elsewhere."""

import importlib
import json
import shutil
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from simtrain.cli.main import app
from simtrain.errors import WrongInput
from simtrain.validation import own_profile


def test_a_kernel_that_raises_costs_its_own_rows_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "validate"))
    before = set(sys.modules)
    measure, machine = importlib.import_module("measure.__main__"), importlib.import_module("machine")

    def rows(*arguments: Any) -> Iterator[dict[str, Any]]:
        yield {"name": "a", "time_s": 1.0}

    def raises(*arguments: Any) -> Iterator[dict[str, Any]]:
        yield from rows()
        raise RuntimeError("no such kernel")

    for name in ("launches", "copies", "allocations", "passes", "updates", "products"):
        monkeypatch.setattr(measure.kernels, name, rows)
    for name in ("losses", "attention"):
        monkeypatch.setattr(measure.kernels, name, raises)
    failed: dict[str, str] = {}
    measure.measured(machine.Machine("cpu"), "quick", time.monotonic(), tmp_path, failed)
    assert failed == {"loss": "RuntimeError: no such kernel", "attention": "RuntimeError: no such kernel"}
    lengths = {path.stem: len(path.read_text().splitlines()) - 1 for path in tmp_path.glob("*.csv")}
    assert lengths == {
        "launch": 1, "copy": 1, "allocation": 1, "elementwise": 3, "attention_forward": 1, "matmul": 1,
    }  # fmt: skip
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("measure", "machine"):
            del sys.modules[name]


def test_tables_measured_elsewhere_become_a_profile(profile: Path, tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for path in (profile / "machine.json", *profile.glob("*.csv")):
        shutil.copyfile(path, raw / path.name)
    facts = json.loads((raw / "machine.json").read_text())
    (raw / "machine.json").write_text(json.dumps(facts | {"failed": {"products in fp8": "no such kernel"}}))
    done = CliRunner().invoke(app, ["measure", "--from", str(raw), "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0
    made, whole = (tomllib.loads((folder / "meta.toml").read_text()) for folder in (out, profile))
    assert made["law"] == whole["law"]
    assert "products in fp8 failed: no such kernel" in made["source"]
    assert (out / "cluster.toml").read_text() == (profile / "cluster.toml").read_text()
    (raw / "matmul.csv").unlink()
    shutil.rmtree(out)
    with pytest.raises(WrongInput, match=r"matmul\.csv"):
        own_profile.bring(raw, out)
    assert not out.exists()
    (raw / "machine.json").unlink()
    with pytest.raises(WrongInput, match="which ends a measurement"):
        own_profile.bring(raw, out)
