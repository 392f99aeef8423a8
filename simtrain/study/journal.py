"""What a sweep has found so far: a file that is only appended to, a line a point, so that nothing is lost or redone."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

from simtrain.errors import Problem, WrongInput
from simtrain.spec.job import Job

VERSION: Final = 1


def key(job: Job) -> str:
    """What tells a job from every other: all that is known of it."""
    return hashlib.sha256(job.model_dump_json().encode()).hexdigest()


class Journal:
    """Rows by the key of their job, kept in a file beside the answer until that is written."""

    def __init__(self, path: Path):
        """Read what is there; a line that was cut off is dropped. WrongInput where the file cannot be used."""
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
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
                self.rows |= {entry["key"]: entry["row"]} if known else {}
            except (ValueError, TypeError, KeyError):
                known = False
            if not known:
                rule, hint = "is not a journal this simtrain writes", "delete it to start anew"
                raise WrongInput([Problem(str(self.path), None, rule, hint)])
        return whole

    def add(self, job: Job, row: dict[str, Any]) -> None:
        """Keep a row; it is on the disk when this returns."""
        name = key(job)
        entry = {"format_version": VERSION, "key": name, "row": row}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows[name] = row

    def close(self) -> None:
        """Stop writing."""
        self._file.close()
