"""One layout as text fields, checked against a job by the same rules the search uses."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.search.space import RULES, broken_rules, columns_read
from simtrain.spec.job import Job
from simtrain.spec.placement import OFFLOAD, placement
from simtrain.spec.plan import COLUMNS, RECOMPUTE, Plan, PlanTable
from simtrain.spec.schedule import SCHEDULES
from simtrain.workload.rule import Rule

COLUMN_OF: Final = {"cp": "cp_ring", "ulysses": "cp_head"}
"""Options named otherwise than the column they set."""
CHOICES: Final = {"schedule": SCHEDULES, "recompute": RECOMPUTE, "offload": OFFLOAD, "zero": ("0", "1", "2", "3")}
AXES: Final = ("tp", "cp", "ulysses", "pp")
PLAINEST: Final = {
    "zero": "0",
    "full_layers": "0",
    "recompute": "none",
    "offload": "none",
    "schedule": None,
    "shard_group": None,
}
"""Of an option; 1 of a degree."""
DERIVED: Final = {"dp", "shard_group"}
LARGEST: Final = 2**20
COUNTABLE: Final = 2**40
"""Products of degrees beyond it are not looked at rule by rule."""
NEIGHBOURS: Final = 4096
"""Values tried on either side of one that breaks a rule."""
Values = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Layout:
    """Degrees and choices as written on a command line."""

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Self:
        """These options, the plainest value of all others; WrongInput names those that are not known."""
        known = [field.name for field in fields(cls)]
        problems = [
            Problem(_flag(name), None, "is not an option of a layout", nearest(name, known))
            for name in options
            if name not in known
        ]
        if problems:
            raise WrongInput(problems)
        plain: dict[str, Any] = {name: PLAINEST.get(name, "1") for name in known}
        return cls(**(plain | {name: str(value) for name, value in options.items()} | {"sp": bool(options.get("sp"))}))

    tp: str
    sp: bool
    pp: str
    vpp: str
    cp: str
    ulysses: str
    ep: str
    etp: str
    zero: str
    shard_group: str | None
    schedule: str | None
    micro_batch: str
    recompute: str
    full_layers: str
    offload: str

    def problems(self) -> list[Problem]:
        """What is wrong with the text itself, whatever the job."""
        problems = []
        for name, text in vars(self).items():
            if name == "sp" or text is None:
                continue
            lowest = 0 if name == "full_layers" else 1
            if name == "offload":
                try:
                    placement(text)
                except ValueError as error:
                    problems.append(Problem(_flag(name), text, str(error)))
            elif name in CHOICES:
                if text not in CHOICES[name]:
                    problems.append(Problem(_flag(name), text, "is not known", nearest(text, CHOICES[name])))
            elif not text.isdecimal() or not lowest <= int(text) <= LARGEST:
                rule = f"must be a whole number from {lowest} to {LARGEST:,}"
                problems.append(Problem(_flag(name), text, rule))
        return problems

    def plan(self, job: Job) -> Plan:
        """The plan of `job`; `WrongInput` with everything that is wrong with it."""
        problems = self.problems()
        if len(job.global_batch) > 1:
            sizes = f"{job.global_batch[0]}..{job.global_batch[-1]}"
            problems.append(
                Problem("--global-batch", sizes, "is several sizes; one layout has one", "name one of them")
            )
        if problems:
            raise WrongInput([*problems, *self._of_the_rest(job, problems)])
        values = self._values(job)
        taken = prod(int(values[axis][0]) for axis in AXES)
        if taken > COUNTABLE:
            raise WrongInput([_uneven(job, values, taken)])
        table = _table(job, values)
        broken = broken_rules(job, table)[0]
        if job.devices % taken:
            problems.append(_uneven(job, values, taken))
            broken = [rule for rule in broken if not columns_read(job, rule) & DERIVED]
        problems += [
            Problem(described(job, table, rule), None, stated(rule), _hint(job, values, broken, rule, table))
            for rule in broken
        ]
        if problems:
            raise WrongInput(problems)
        return table.plan(0)

    def _of_the_rest(self, job: Job, problems: list[Problem]) -> list[Problem]:
        """What is wrong besides, with the plainest value in place of each that cannot be read."""
        wrong = {problem.where for problem in problems}
        plain: dict[str, Any] = {name: PLAINEST.get(name, "1") for name in vars(self) if _flag(name) in wrong}
        one_batch = job.model_copy(update={"global_batch": job.global_batch[:1]})
        try:
            replace(self, **plain).plan(one_batch)
        except WrongInput as error:
            return list(error.problems)
        return []

    def _values(self, job: Job) -> Values:
        """Every option that is stated, as an array of length 1; choices as their place in CHOICES."""
        stated = {name: text for name, text in vars(self).items() if text is not None and name != "sp"}
        stated["offload"] = placement(self.offload)
        numbers = {
            name: CHOICES[name].index(text) if name in CHOICES else int(text) for name, text in stated.items()
        } | {"sp": int(self.sp), "global_batch": job.global_batch[0]}
        return {name: np.array([number]) for name, number in numbers.items()}


def described(job: Job, plans: PlanTable, rule: Rule) -> str:
    """The part of the first plan that a rule reads, e.g. `layout (tp 3) on 8 devices`."""
    reads = columns_read(job, rule)
    flags = {column: flag for flag, column in COLUMN_OF.items()}
    shown = [
        f"{flags.get(name, name.replace('_', ' '))} {_word(name, int(getattr(plans, name)[0]))}"
        for name in COLUMNS
        if name in reads
    ]
    return f"layout ({', '.join(shown)}) on {job.devices} devices"


def stated(rule: Rule) -> str:
    """A broken rule as the rule of a problem."""
    return f"must obey '{rule.name}': {rule.reason}"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _word(name: str, value: int) -> str:
    return CHOICES[name][value] if name in CHOICES else str(value)


def _table(job: Job, values: Values) -> PlanTable:
    """Plans of these options: the data-parallel degree is what the axes leave; states are sharded over all of it."""
    columns = {COLUMN_OF.get(name, name): value for name, value in values.items()}
    context = columns["cp_ring"] * columns["cp_head"]
    dp = np.maximum(job.devices // (columns["tp"] * columns["pp"] * context), 1)
    defaults = {
        "dp": dp,
        "shard_group": np.where(columns["zero"] > 0, dp * context, 1),
        "schedule": np.where(columns["vpp"] > 1, SCHEDULES.index("interleaved"), SCHEDULES.index("1f1b")),
    }
    columns = defaults | columns
    length = max(map(len, columns.values()))
    return PlanTable(**{name: np.broadcast_to(columns[name], length).astype(np.int64) for name in COLUMNS})


def _others(name: str, values: Values) -> NDArray[np.int64]:
    """Other values of one option, ascending."""
    present = int(values[name][0])
    lowest = 0 if name in CHOICES or name in ("sp", "full_layers") else 1
    highest = len(CHOICES[name]) - 1 if name in CHOICES else 1 if name == "sp" else present + NEIGHBOURS
    below, above = np.arange(max(lowest, present - NEIGHBOURS), present), np.arange(present + 1, highest + 1)
    return np.concatenate([below, above])


def _uneven(job: Job, values: Values, taken: int) -> Problem:
    """The axes do not share out the devices evenly; the hint changes one axis."""
    good = {}
    for name in AXES:
        rest = taken // int(values[name][0])
        others = _others(name, values).tolist() if values[name][0] > 1 else []
        good[name] = np.array([other for other in others if job.devices % (rest * other) == 0])
    written = " x ".join(f"{name} {values[name][0]}" for name in AXES if values[name][0] > 1)
    rule = f"takes {taken:,} devices, which does not divide the {job.devices}"
    return Problem(f"layout ({written})", None, rule, _use(good, values))


def _hint(job: Job, values: Values, broken: list[Rule], rule: Rule, table: PlanTable) -> str:
    """Single options that keep the rule when changed, best those that also keep the others broken beside it."""
    reads = columns_read(job, rule)
    beside = [other for other in broken if columns_read(job, other) & reads]
    found = _fixes(job, values, rule, beside) or _fixes(job, values, rule, [rule])
    other = rule.beside(table) if rule.beside is not None else ""
    return (f"{found}; or {other}" if found else f"try {other}") if other else found


def _fixes(job: Job, values: Values, rule: Rule, wanted: list[Rule]) -> str:
    """Single options that keep the wanted rules when changed, without breaking one that was kept."""
    reads = columns_read(job, rule)
    before = {other.name for other in broken_rules(job, _table(job, values))[0]} - {other.name for other in wanted}
    kept = [other for other in RULES if other.name not in before]
    good: Values = {}
    for name in values:
        if COLUMN_OF.get(name, name) in reads and len(others := _others(name, values)):
            table = _table(job, values | {name: others})
            good[name] = others[np.all([np.broadcast_to(r.holds(job, table), len(table)) for r in kept], axis=0)]
    return _use(good, values)


def _use(good: Values, values: Values) -> str:
    """The nearest good values below and above the present one, option by option."""
    options = []
    for name, others in good.items():
        present = int(values[name][0])
        near = [*others[others < present][-1:].tolist(), *others[others > present][:1].tolist()]
        if near and name == "sp":
            options.append("leaving out --sp" if present else "--sp")
        elif near:
            options.append(f"{_flag(name)} " + " or ".join(_word(name, value) for value in near))
    return f"try {'; or '.join(options)}" if options else ""
