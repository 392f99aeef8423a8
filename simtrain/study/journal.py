"""What a sweep has found so far: a file that is only appended to, a line a point, so that nothing is lost or redone.

Every line says which program found it: numbers of two versions are not mixed.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.job import Job
from simtrain.spec.library import path_of

VERSION: Final = 1
READ: Final = (".py", ".toml", ".csv", ".json")
"""Endings of files that answers depend on."""


@functools.cache
def program() -> str:
    """What tells this program from every other: all its code, its catalog and its measurements."""
    found = hashlib.sha256()
    for folder in (path_of("catalog/").parent, path_of("profiles")):
        for path in sorted(folder.rglob("*")):
            if path.suffix in READ and "_data" not in path.parts:
                found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def key(job: Job) -> str:
    """What tells a job from every other: all that is known of it."""
    return hashlib.sha256(job.model_dump_json().encode()).hexdigest()


class Journal:
    """Rows by the key of their job, kept in a file beside the answer until that is written."""

    def __init__(self, path: Path):
        """Read what is there; a line that was cut off is dropped. WrongInput where the file cannot be used."""
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self.stale = 0
        """Lines that another version of simtrain has written: those points are asked again."""
        try:
            whole = self._read() if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(whole)
        except OSError as error:
            raise WrongInput([Problem(str(path), None, f"cannot be used: {error.strerror}")]) from None

    def _read(self) -> int:
        """Bytes up to the last whole line."""
        text = self.path.read_bytes()
        whole = text.rfind(b"\n") + 1
        for line in text[:whole].splitlines():
            try:
                entry = json.loads(line)
                known = entry["format_version"] == VERSION
                found = {entry["key"]: entry["row"]}
                same = entry.get("program") == program()
                self.rows |= found if known and same else {}
                self.stale += known and not same
            except (ValueError, TypeError, KeyError):
                known = False
            if not known:
                rule, hint = "is not a journal this simtrain writes", "delete it to start anew"
                raise WrongInput([Problem(str(self.path), None, rule, hint)])
        return whole

    def add(self, job: Job, row: dict[str, Any]) -> None:
        """Keep a row; it is on the disk when this returns."""
        name = key(job)
        entry = {"format_version": VERSION, "program": program(), "key": name, "row": row}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows[name] = row

    def close(self) -> None:
        """Stop writing."""
        self._file.close()


def forget(path: Path, jobs: Iterable[Job]) -> int:
    """Delete the points of these jobs, and the file where it holds no others; how many others it holds."""
    done = {key(job) for job in jobs}
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if json.loads(line)["key"] not in done]
    if kept:
        beside = path.with_name(f"{path.name}.new")
        beside.write_bytes(b"".join(kept))
        beside.replace(path)
    else:
        path.unlink()
    return len(kept)
