"""Problems with what a user gave us: each with the value, the rule it breaks and the nearest fix."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, which value, which rule, and what to do (`hint`)."""

    where: str
    value: object
    rule: str
    hint: str = ""

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        return f"{self.where}{shown}: {self.rule}"


class WrongInput(Exception):
    """The input cannot be answered; carries every problem found, not only the first (exit code 2)."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["WrongInput"], tuple[tuple[Problem, ...]]]:
        """Travels between processes with its problems."""
        return WrongInput, (self.problems,)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the closest known names, or listing them when few."""
    known = sorted(known)
    wanted = name.lower()
    holding = [entry for entry in known if wanted in entry.lower()] if len(wanted) > 2 else []
    close = difflib.get_close_matches(wanted, holding, n=3, cutoff=0.0) or difflib.get_close_matches(
        wanted, known, n=3, cutoff=0.5
    )
    if close:
        return "did you mean " + " or ".join(close) + "?"
    return "known: " + ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
