"""One layout as text fields, checked against a job by the same rules the search uses."""

from dataclasses import dataclass

from pydantic import ValidationError

from simtrain.errors import Problem, nearest
from simtrain.search.space import broken_rules
from simtrain.spec.base import problems_of
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

    def plan(self, job: Job | None) -> Plan | list[Problem]:
        """The plan, or everything that is wrong with it; without a job only the text is checked."""
        numbers, problems = self._numbers()
        for flag, value, known in (("--schedule", self.schedule, SCHEDULES), ("--recompute", self.recompute, RECOMPUTE)):
            if value is not None and value not in known:
                problems.append(Problem(flag, value, "is not known", nearest(value, known)))
        if problems or job is None:
            return problems
        taken = numbers["tp"] * numbers["cp"] * numbers["ulysses"] * numbers["pp"]
        if job.devices % taken:
            rule = f"tp x cp x ulysses x pp = {taken} does not divide the {job.devices} devices"
            return [Problem("layout", None, rule, "their product must be a divisor of the devices")]
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
        try:
            plan = Plan.model_validate(data)
        except ValidationError as error:
            return problems_of(error, Plan, "layout")
        broken = broken_rules(job, PlanTable.of([plan]))[0]
        return [Problem("layout", None, f"{rule.name}: {rule.reason}") for rule in broken] or plan

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
