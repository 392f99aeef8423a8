"""One layout as text fields, checked against a job by the same rules the search uses."""

from dataclasses import dataclass

from simtrain.errors import Problem, WrongInput, nearest
from simtrain.search.space import broken_rules
from simtrain.spec.base import checked
from simtrain.spec.job import Job
from simtrain.spec.plan import RECOMPUTE, SCHEDULES, Plan, PlanTable


@dataclass(frozen=True)
class Layout:
    """Degrees and choices as written on a command line."""

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

    def problems(self) -> list[Problem]:
        """What is wrong with the text itself, whatever the job."""
        problems = self._numbers()[1]
        for flag, value, known in (
            ("--schedule", self.schedule, SCHEDULES),
            ("--recompute", self.recompute, RECOMPUTE),
        ):
            if value is not None and value not in known:
                problems.append(Problem(flag, value, "is not known", nearest(value, known)))
        return problems

    def plan(self, job: Job) -> Plan:
        """The plan of `job`; `WrongInput` with everything that is wrong with it."""
        problems = self.problems()
        if problems:
            raise WrongInput(problems)
        numbers = self._numbers()[0]
        taken = numbers["tp"] * numbers["cp"] * numbers["ulysses"] * numbers["pp"]
        if job.devices % taken:
            rule = f"tp x cp x ulysses x pp = {taken} does not divide the {job.devices} devices"
            raise WrongInput([Problem("layout", None, rule, "their product must be a divisor of the devices")])
        dp = job.devices // taken
        group = dp * numbers["cp"] * numbers["ulysses"]
        data = {
            "tp": numbers["tp"],
            "sp": self.sp,
            "cp_ring": numbers["cp"],
            "cp_head": numbers["ulysses"],
            "pp": numbers["pp"],
            "vpp": numbers["vpp"],
            "ep": numbers["ep"],
            "etp": numbers["etp"],
            "dp": dp,
            "zero": numbers["zero"],
            "shard_group": numbers.get("shard_group", group if numbers["zero"] else 1),
            "schedule": self.schedule or ("interleaved" if numbers["vpp"] > 1 else "1f1b"),
            "micro_batch": numbers["micro_batch"],
            "global_batch": job.global_batch[-1],
            "recompute": self.recompute,
            "full_layers": numbers["full_layers"],
        }
        plan = checked(Plan, data, "layout")
        broken = broken_rules(job, PlanTable.of([plan]))[0]
        if broken:
            raise WrongInput([Problem("layout", None, f"{rule.name}: {rule.reason}") for rule in broken])
        return plan

    def _numbers(self) -> tuple[dict[str, int], list[Problem]]:
        numbers, problems = {}, []
        for name, text in vars(self).items():
            if name in ("sp", "schedule", "recompute") or text is None:
                continue
            lowest = 0 if name in ("zero", "full_layers") else 1
            if text.isdecimal() and int(text) >= lowest:
                numbers[name] = int(text)
            else:
                flag = "--" + name.replace("_", "-")
                problems.append(Problem(flag, text, f"must be a whole number of at least {lowest}"))
        return numbers, problems
