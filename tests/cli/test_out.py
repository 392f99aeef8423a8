"""`--out`: the whole file or none, and a refusal before any work where it cannot be written."""

import json
import os
from pathlib import Path

import pytest
from cli_files import write
from conftest import Run
from test_wrong_input import GPUS, refused


def test_out_in_a_missing_folder(run: Run, tmp_path: Path) -> None:
    outcome = refused(run(*GPUS, "--out", "no/such/plan.json"))
    assert "mkdir -p no/such" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_out_on_a_folder(run: Run, tmp_path: Path) -> None:
    outcome = refused(run(*GPUS, "--out", tmp_path))
    assert "is a folder" in outcome.err
    assert f"{tmp_path}/plan.json" in outcome.err


def test_out_on_a_device(run: Run) -> None:
    assert "is not an ordinary file" in refused(run(*GPUS, "--out", "/dev/null")).err
    assert not Path("/dev/null").is_file()


def test_out_on_what_is_read(run: Run, tmp_path: Path) -> None:
    text = 'model = "llama-3-8b"\ncluster = "dgx-h100"\ngpus = 8\n'
    job = write(tmp_path / "job.toml", text)
    assert "would overwrite what is read" in refused(run("plan", job, "--out", job)).err
    assert job.read_text() == text


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder nobody may write to; skipped where the user may write everywhere."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    write(folder / "old.json", "{}").chmod(0o444)
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user writes to read-only folders; test_out_where_the_system_refuses covers the message")
    return folder


def test_out_in_a_read_only_folder(run: Run, sealed: Path) -> None:
    assert "permission denied" in refused(run(*GPUS, "--out", sealed / "plan.json")).err
    assert "permission denied" in refused(run(*GPUS, "--out", sealed / "old.json")).err
    assert (sealed / "old.json").read_text() == "{}"


@pytest.mark.parametrize("allowed", [False, True], ids=["known before", "found while writing"])
def test_out_where_the_system_refuses(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: bool) -> None:
    """The same as a plain user sees, also where the tests run as root: access is denied by the system's own calls."""

    def denied(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        if "x" in mode or "w" in mode:
            raise PermissionError(13, "Permission denied")
        return io_open(path, mode, *rest, **more)

    io_open = Path.open
    monkeypatch.setattr(os, "access", lambda *_: allowed)
    monkeypatch.setattr(Path, "open", denied)
    outcome = run(*GPUS, "--global-batch", "64", "--out", tmp_path / "plan.json")
    assert outcome.code == 2
    assert "cannot be written: permission denied" in outcome.err.lower()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_half_written(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that fills up leaves the old file and no other."""
    out = write(tmp_path / "plan.json", "old")

    def full(document: object, file: object, **_: object) -> None:
        file.write('{"format_ver')  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    outcome = run(*GPUS, "--global-batch", "64", "--out", out)
    assert outcome.code == 2
    assert "No space left on device" in outcome.err
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
