"""The README's commands are run and their outputs compared; README_UPDATE=1 writes what they print."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
SESSION = re.compile(r"```console\n\$ (simtrain [^\n]*)\n(.*?)```", re.DOTALL)
SESSIONS = [match.groups() for match in SESSION.finditer(README.read_text())]


ENTRANCES = [
    line.partition("#")[0].strip()
    for line in README.read_text().split("Other entrances:")[1].split("Every verb")[0].splitlines()
    if line.strip()
]
CLUSTER = re.search(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
CONFIG = README.parent / "tests/unit/spec/configs"
JOB = 'model = "llama-3-8b"\ncluster = "my-cluster.toml"\nseq = "8k"\nglobal_batch = 128\n'


def run(command: str, folder: Path) -> str:
    code = "from simtrain.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()[1:]],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "118"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def timeless(text: str) -> str:
    """Without the time the search took, and without the way lines are filled."""
    return re.sub(r"; \d+\.\d s$", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all sessions: later ones read the files earlier ones write."""
    return tmp_path_factory.mktemp("readme")


@pytest.mark.parametrize("command", [command for command, _ in SESSIONS])
def test_sessions_print_what_the_readme_says(command: str, folder: Path) -> None:
    printed = run(command, folder)
    shown = dict(SESSIONS)[command]
    if os.environ.get("README_UPDATE"):
        text = README.read_text()
        README.write_text(text.replace(f"$ {command}\n{shown}```", f"$ {command}\n{printed}```"))
        return
    if shown.rstrip().endswith("..."):
        shown = shown.rstrip()[:-3].rstrip()
        assert timeless(printed).startswith(timeless(shown))
    else:
        assert timeless(printed) == timeless(shown)


def test_the_readme_shows_sessions_and_the_two_commands() -> None:
    text = README.read_text()
    assert len(SESSIONS) >= 3
    for target in ("make demo", "make test"):
        assert target in text
        assert f"\n{target.split()[1]}:" in (README.parent / "Makefile").read_text()


@pytest.mark.parametrize("command", ENTRANCES)
def test_other_entrances_answer(command: str, tmp_path: Path) -> None:
    """With the README's own cluster file, a real config.json and a job file."""
    assert CLUSTER is not None
    (tmp_path / "path/to").mkdir(parents=True)
    shutil.copy(next(CONFIG.glob("llama*.json")), tmp_path / "path/to/config.json")
    (tmp_path / "my-cluster.toml").write_text(CLUSTER.group(1))
    (tmp_path / "job.toml").write_text(JOB)
    assert run(command, tmp_path).strip()


def test_a_model_of_ones_own_in_five_commands(tmp_path: Path) -> None:
    """All but the first, which installs: report, notebook and command line are there and are of that model."""
    shown = README.read_text().split("For a model of your own")[1].split("(`marimo edit`")[0]
    commands = [line.strip() for line in shown.splitlines() if line.startswith("    ")]
    assert len(commands) == 5
    (tmp_path / "path/to").mkdir(parents=True)
    shutil.copy(CONFIG / "qwen-3-8b.json", tmp_path / "path/to/config.json")
    shutil.copytree(README.parent / "notebooks", tmp_path / "notebooks")
    for command in commands[1:]:
        if command.startswith(".venv/bin/simtrain"):
            run(command.removeprefix(".venv/bin/"), tmp_path)
        else:
            arguments = command.removeprefix(".venv/bin/marimo").split()
            subprocess.run([sys.executable, "-m", "marimo", *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert "<title>to on 64 x" in (tmp_path / "report.html").read_text()
    assert "path/to/config.json" in (tmp_path / "notebook.html").read_text()
    assert "--num-layers 36" in (tmp_path / "run/arguments.txt").read_text()
