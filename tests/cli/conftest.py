"""The command line as a user meets it: a folder of one's own, and what came out."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

CODE = "from simtrain.cli.main import main; main()"
ROOT = Path(__file__).parents[2]
TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH")
PLAIN = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """Exit code and both streams of one run."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The complaints, one a line."""
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]


class Stream(io.TextIOWrapper):
    """A pipe kept in memory."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self) -> str:
        return self.buffer.getvalue().decode()  # type: ignore[attr-defined]


Run = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings of the terminal the tests run in; an empty current folder."""
    for name in TERMINAL:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("plan", ...)` in this process, its streams piped; anything that would be a traceback fails the test."""

    def inside(*arguments: object) -> Outcome:
        from simtrain.cli.main import main

        out, err = Stream(), Stream()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["simtrain", *map(str, arguments)])
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            try:
                main()
                code = 0
            except SystemExit as exit:
                code = int(exit.code or 0)
        return checked(Outcome(code, out.text(), err.text()))

    return inside


@pytest.fixture
def shell() -> Run:
    """`shell("plan", ...)` in a process of its own."""

    def outside(*arguments: object, env: dict[str, str] = PLAIN) -> Outcome:
        paths = {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "error", "-c", CODE, *map(str, arguments)]
        done = subprocess.run(command, env=os.environ | paths | dict(env), capture_output=True, check=False)
        return checked(Outcome(done.returncode, done.stdout.decode(), done.stderr.decode()))

    return outside


def checked(outcome: Outcome) -> Outcome:
    """What holds of every run: no traceback, and an exit code of ours."""
    assert "Traceback" not in outcome.err + outcome.out
    assert outcome.code in (0, 1, 2)
    if outcome.code == 2:
        assert outcome.err or "Usage: " in outcome.out
        assert "error:" not in outcome.out
    return outcome
